// SPDX-License-Identifier: Apache-2.0
#include "backend/launch/private_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/uuid.hpp"
#include "launch/mapped_file.hpp"

namespace vtpm::launch {
namespace {

Result<> write_to_file(int to, ByteView bytes) {
    while (!bytes.empty()) {
        const ssize_t size = ::write(to, bytes.data(), bytes.size());
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) return fail_errno("copy a file for the guest");
        bytes = bytes.subspan(static_cast<std::size_t>(size));
    }
    return {};
}

tl::unexpected<Error> shortened() { return fail(ErrorCode::kSystem, "a file was shortened while it was copied"); }

// Where the kernel cannot copy between these file systems.
Result<> copy_by_reading(int from, off_t offset, std::uint64_t size, int to) {
    std::array<std::uint8_t, 65'536> buffer;
    while (size > 0) {
        const ssize_t taken = ::pread(from, buffer.data(), std::min<std::uint64_t>(buffer.size(), size), offset);
        if (taken < 0 && errno == EINTR) continue;
        if (taken < 0) return fail_errno("read a file for the guest");
        if (taken == 0) return shortened();
        VTPM_TRY(write_to_file(to, ByteView(buffer).first(static_cast<std::size_t>(taken))));
        offset += taken;
        size -= static_cast<std::uint64_t>(taken);
    }
    return {};
}

Result<> copy_range(int from, std::uint64_t start, std::uint64_t size, int to) {
    auto offset = static_cast<off_t>(start);
    while (size > 0) {
        const ssize_t copied = ::copy_file_range(from, &offset, to, nullptr, size, 0);
        if (copied < 0 && errno == EINTR) continue;
        if (copied < 0 && errno == ENOSPC) return fail_errno("copy a file for the guest");
        if (copied < 0) return copy_by_reading(from, offset, size, to);
        if (copied == 0) return shortened();
        size -= static_cast<std::uint64_t>(copied);
    }
    return {};
}

// They take no room on the disk.
Result<> append_zeros(int to, std::uint64_t count) {
    if (count == 0) return {};
    const off_t end = ::lseek(to, static_cast<off_t>(count), SEEK_CUR);
    if (end < 0 || ::ftruncate(to, end) != 0) return fail_errno("lengthen a file for the guest");
    return {};
}

}  // namespace

Result<UniqueFd> open_source(const std::string &path) {
    UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!file) return fail(ErrorCode::kNotFound, "{} cannot be read: {}", path, std::strerror(errno));
    VTPM_TRY(size_of_file(file.get(), path));
    return file;
}

Result<PrivateDirectory> PrivateDirectory::open(const std::string &path) {
    UniqueFd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!directory) return fail(ErrorCode::kRefused, "{} is no directory for a launch: {}", path, std::strerror(errno));
    struct stat status {};
    if (::fstat(directory.get(), &status) != 0) return fail_errno("{}", path);
    if (status.st_uid != ::geteuid() || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return fail(ErrorCode::kRefused, "{} is not a directory that only this user writes to: chown and chmod 700 it",
                    path);
    return PrivateDirectory(std::move(directory), path);
}

Result<UniqueFd> PrivateDirectory::new_file() const {
    UniqueFd file(::openat(directory_.get(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (!file) return fail_errno("create a file without a name in {}", path_);
    return file;
}

// As linkat(2) says: by /proc, so that no capability is needed. It follows no link at the new name.
Result<std::string> PrivateDirectory::publish(const UniqueFd &file, const char *name) const {
    const std::string nameless = fmt::format("/proc/self/fd/{}", file.get());
    const std::string unique = fmt::format("{}.{}", name, Uuid::random().to_string());
    if (::linkat(AT_FDCWD, nameless.c_str(), directory_.get(), unique.c_str(), AT_SYMLINK_FOLLOW) != 0)
        return fail_errno("{}/{}", path_, unique);
    return fmt::format("{}/{}", path_, unique);
}

Result<UniqueFd> PrivateDirectory::open_file(const std::string &name) const {
    if (name.empty() || name.find('/') != std::string::npos)
        return fail(ErrorCode::kRefused, "'{}' is not a file in {}", name, path_);
    UniqueFd file(::openat(directory_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!file) return fail(ErrorCode::kRefused, "{}/{} cannot be read: {}", path_, name, std::strerror(errno));
    VTPM_TRY(size_of_file(file.get(), name));
    return file;
}

Result<UniqueFd> copy_of(const UniqueFd &source, const PrivateDirectory &directory) {
    VTPM_ASSIGN(const std::uint64_t size, size_of_file(source.get(), "the file"));
    VTPM_ASSIGN(UniqueFd file, directory.new_file());
    if (::ioctl(file.get(), FICLONE, source.get()) == 0) return file;
    VTPM_TRY(copy_range(source.get(), 0, size, file.get()));
    return file;
}

Result<UniqueFd> copy_of(const UniqueFd &source, const Extents &parts, ByteView tail,
                         const PrivateDirectory &directory) {
    VTPM_ASSIGN(UniqueFd file, directory.new_file());
    for (const Extent &part : parts) {
        VTPM_TRY(copy_range(source.get(), part.offset, part.size, file.get()));
        VTPM_TRY(append_zeros(file.get(), part.zeros));
    }
    VTPM_TRY(write_to_file(file.get(), tail));
    return file;
}

}  // namespace vtpm::launch
