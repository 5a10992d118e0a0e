// SPDX-License-Identifier: Apache-2.0
#include "launch/cpio.hpp"

#include <fmt/format.h>

#include <string>

namespace vtpm::launch {
namespace {

constexpr unsigned kDirectoryMode = 0040555;
constexpr unsigned kFileMode = 0100444;

void pad_to_four(Bytes &archive) { archive.resize((archive.size() + 3) / 4 * 4); }

// Magic, then inode, mode, uid, gid, links, mtime, size of the content, device (twice two numbers), size of the name
// with its NUL, checksum: eight hexadecimal digits each.
void add_entry(Bytes &archive, unsigned inode, unsigned mode, std::string_view name, ByteView content) {
    const std::string header =
        fmt::format("070701{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}", inode, mode,
                    0, 0, 1, 0, content.size(), 0, 0, 0, 0, name.size() + 1, 0);
    const std::string named = header + std::string(name) + '\0';
    archive.insert(archive.end(), named.begin(), named.end());
    pad_to_four(archive);
    archive.insert(archive.end(), content.begin(), content.end());
    pad_to_four(archive);
}

}  // namespace

Bytes cpio_archive(std::string_view directory, std::string_view name, ByteView content) {
    Bytes archive;
    add_entry(archive, 1, kDirectoryMode, directory, {});
    add_entry(archive, 2, kFileMode, fmt::format("{}/{}", directory, name), content);
    add_entry(archive, 0, 0, "TRAILER!!!", {});
    return archive;
}

}  // namespace vtpm::launch
