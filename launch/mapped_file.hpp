// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>

#include "base/bytes.hpp"
#include "base/result.hpp"

namespace vtpm::launch {

// A file's content in memory, as far as it is read. Who can shorten the file meanwhile can end the process (SIGBUS): of
// a file that others may write, map a copy.
class MappedFile {
public:
    // Of at most kMaxFile bytes. kInvalid: it is no regular file, empty or larger. `name` is for the error's text. The
    // descriptor may be closed afterwards.
    static Result<MappedFile> map(int fd, const std::string &name);
    MappedFile(MappedFile &&other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
    MappedFile &operator=(MappedFile &&) = delete;
    MappedFile(const MappedFile &) = delete;
    MappedFile &operator=(const MappedFile &) = delete;
    ~MappedFile();

    [[nodiscard]] ByteView bytes() const { return bytes_; }

private:
    explicit MappedFile(MutableBytes bytes) : bytes_(bytes) {}
    MutableBytes bytes_;
};

// The size of a file that may be started, in bytes. kInvalid as above; kSystem: fstat(2) failed.
Result<std::uint64_t> size_of_file(int fd, const std::string &name);

}  // namespace vtpm::launch
