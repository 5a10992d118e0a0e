// SPDX-License-Identifier: Apache-2.0
// What the next boot will find: files, by the paths that loaders have for them, and the firmware's variables.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "launch/hashes.hpp"

namespace vtpm {

struct FileDigests {
    Bytes content;
    Bytes image;  // over what Authenticode covers; empty: it is no PE image
    bool operator==(const FileDigests &) const = default;
};

struct BootFiles {
    // Of the files of this path ("/boot/vmlinuz", "/EFI/debian/shimx64.efi") on any of the file systems that loaders
    // read; each content once.
    std::function<std::vector<FileDigests>(const std::string &path)> find;
    // Their contents, of those that are not large: what GRUB obeys.
    std::function<std::vector<std::string>(const std::string &path)> read;
    // By name and GUID, as in efivarfs. None: it is not there, or cannot be read.
    std::function<std::optional<Bytes>(const std::string &name)> variable;
};

// Those under `root`, "" for this host.
BootFiles files_of_host(const std::string &root, launch::Hash bank);

}  // namespace vtpm
