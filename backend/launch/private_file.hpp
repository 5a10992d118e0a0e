// SPDX-License-Identifier: Apache-2.0
// The files that a guest is started from, while they are in the making: in libxl's directory, which is root's, but
// without a name. A launch that ends early, by whatever, leaves nothing.
#pragma once

#include <string>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "launch/extents.hpp"

namespace vtpm::launch {

// Opens `path` for reading, where that does nothing else: no pipe is waited for, no terminal taken. kNotFound: it
// cannot be opened. kInvalid: not a regular file, empty, or larger than kMaxFile.
Result<UniqueFd> open_source(const std::string &path);

class PrivateDirectory {
public:
    // kRefused: it is a link, or somebody else may write to it.
    static Result<PrivateDirectory> open(const std::string &path);

    [[nodiscard]] int fd() const { return directory_.get(); }
    [[nodiscard]] const std::string &path() const { return path_; }
    // A new file of mode 0600 without a name.
    [[nodiscard]] Result<UniqueFd> new_file() const;
    // Gives the file a name that begins so, and ends as none before: its path. What a former launch left here, when the
    // host crashed, does no harm.
    [[nodiscard]] Result<std::string> publish(const UniqueFd &file, const char *name) const;
    // A regular file of that name in the directory, not through a link. kRefused otherwise.
    [[nodiscard]] Result<UniqueFd> open_file(const std::string &name) const;

private:
    PrivateDirectory(UniqueFd directory, std::string path) : directory_(std::move(directory)), path_(std::move(path)) {}
    UniqueFd directory_;
    std::string path_;
};

// A copy of the whole of `source`, which shares its blocks where the file system can. kSystem: no room, or `source` was
// shortened meanwhile.
Result<UniqueFd> copy_of(const UniqueFd &source, const PrivateDirectory &directory);

// Parts of `source` one after the other, then `tail`.
Result<UniqueFd> copy_of(const UniqueFd &source, const Extents &parts, ByteView tail,
                         const PrivateDirectory &directory);

}  // namespace vtpm::launch
