// SPDX-License-Identifier: Apache-2.0
#include "launch/mapped_file.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

#include "launch/extents.hpp"

namespace vtpm::launch {

Result<std::uint64_t> size_of_file(int fd, const std::string &name) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) return fail_errno("{}", name);
    if (!S_ISREG(status.st_mode)) return fail(ErrorCode::kInvalid, "{} is not a regular file", name);
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (size == 0) return fail(ErrorCode::kInvalid, "{} is empty", name);
    if (size > kMaxFile)
        return fail(ErrorCode::kInvalid, "{} has {} bytes: at most {} can be measured", name, size, kMaxFile);
    return size;
}

Result<MappedFile> MappedFile::map(int fd, const std::string &name) {
    VTPM_ASSIGN(const std::uint64_t size, size_of_file(fd, name));
    void *const start = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (start == MAP_FAILED) return fail_errno("map {}", name);
    (void)::madvise(start, size, MADV_SEQUENTIAL);
    return MappedFile({static_cast<std::uint8_t *>(start), size});  // mmap(2) gives untyped memory
}

MappedFile::~MappedFile() {
    if (!bytes_.empty()) (void)::munmap(bytes_.data(), bytes_.size());
}

}  // namespace vtpm::launch
