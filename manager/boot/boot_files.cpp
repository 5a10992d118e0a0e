// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/boot_files.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>

#include "base/unique_fd.hpp"
#include "launch/extents.hpp"
#include "launch/mapped_file.hpp"
#include "launch/pe_image.hpp"

namespace vtpm {
namespace {

// Where Debian mounts what firmware and GRUB read. A loader's path says nothing of that.
constexpr std::array<std::string_view, 4> kMounts{"", "/boot", "/boot/efi", "/efi"};
constexpr std::size_t kMaxRead = 1'048'576;
constexpr std::size_t kAttributes = 4;  // of a variable, before its data (Documentation/filesystems/efivarfs.rst)

std::optional<Bytes> digest_of(ByteView file, const launch::Extents &extents, launch::Hash bank) {
    auto digests = launch::digests_of(file, extents, {bank});
    if (!digests) return std::nullopt;
    return std::move((*digests)[bank]);
}

Result<launch::MappedFile> map(const std::string &path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd) return fail(ErrorCode::kNotFound, "{}", path);
    return launch::MappedFile::map(fd.get(), path);
}

std::optional<FileDigests> digests_of_file(const std::string &path, launch::Hash bank) {
    const auto file = map(path);
    if (!file) return std::nullopt;
    auto content = digest_of(file->bytes(), {{0, file->bytes().size(), 0}}, bank);
    if (!content) return std::nullopt;
    const auto pe = launch::read_pe(file->bytes());
    auto image = pe ? digest_of(file->bytes(), pe->authenticode, bank) : std::nullopt;
    return FileDigests{std::move(*content), std::move(image).value_or(Bytes())};
}

// A log may name what it likes.
bool leads_upwards(const std::string &path) {
    const std::filesystem::path parts(path);
    return std::ranges::find(parts, "..") != parts.end();
}

std::vector<FileDigests> find_under(const std::string &root, const std::string &path, launch::Hash bank) {
    std::vector<FileDigests> found;
    if (!path.starts_with('/') || leads_upwards(path)) return found;
    for (const std::string_view mount : kMounts) {
        auto digests = digests_of_file(fmt::format("{}{}{}", root, mount, path), bank);
        if (digests && std::ranges::find(found, *digests) == found.end()) found.push_back(std::move(*digests));
    }
    return found;
}

std::vector<std::string> read_under(const std::string &root, const std::string &path) {
    std::vector<std::string> found;
    if (!path.starts_with('/') || leads_upwards(path)) return found;
    for (const std::string_view mount : kMounts) {
        const auto file = map(fmt::format("{}{}{}", root, mount, path));
        if (file && file->bytes().size() <= kMaxRead) found.emplace_back(file->bytes().begin(), file->bytes().end());
    }
    return found;
}

std::optional<Bytes> variable_under(const std::string &root, const std::string &name) {
    if (name.find('/') != std::string::npos) return std::nullopt;
    std::ifstream file(root + "/sys/firmware/efi/efivars/" + name, std::ios::binary);
    const Bytes bytes{std::istreambuf_iterator<char>(file), {}};
    if (bytes.size() < kAttributes) return std::nullopt;
    return Bytes(bytes.begin() + kAttributes, bytes.end());
}

}  // namespace

BootFiles files_of_host(const std::string &root, launch::Hash bank) {
    // An initrd is large, and named more than once.
    const auto known = std::make_shared<std::map<std::string, std::vector<FileDigests>>>();
    const auto find = [root, bank, known](const std::string &path) {
        const auto [entry, is_new] = known->try_emplace(path);
        if (is_new) entry->second = find_under(root, path, bank);
        return entry->second;
    };
    return {find, [root](const std::string &path) { return read_under(root, path); },
            [root](const std::string &name) { return variable_under(root, name); }};
}

}  // namespace vtpm
