// SPDX-License-Identifier: Apache-2.0
#include "manager/store/directory.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <array>

namespace vtpm {

Result<StateDirectory> StateDirectory::lock(const std::string &path) {
    const std::string id_path = path + "/store.id";
    UniqueFd file(::open(id_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file) return fail_errno("{}", id_path);
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) return fail_errno("lock {}", id_path);
        return fail(ErrorCode::kInUse, "another xen-vtpm-managerd works on the store in {}", path);
    }
    StateDirectory directory(path, std::move(file));
    VTPM_TRY(directory.read_store_id());
    return directory;
}

bool StateDirectory::has_database() const {
    struct stat status {};
    return ::stat(database().c_str(), &status) == 0 && status.st_size > 0;
}

Result<> StateDirectory::read_store_id() {
    std::array<char, 64> buffer{};
    const ssize_t size = ::pread(id_file_.get(), buffer.data(), buffer.size(), 0);
    if (size < 0) return fail_errno("{}/store.id", path_);
    store_id_.assign(buffer.data(), static_cast<std::size_t>(size));
    return {};
}

Result<> StateDirectory::set_store_id(const std::string &id) {
    const UniqueFd directory(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const bool durable = ::pwrite(id_file_.get(), id.data(), id.size(), 0) == static_cast<ssize_t>(id.size()) &&
                         ::fsync(id_file_.get()) == 0 && ::fsync(directory.get()) == 0;
    if (!durable) return fail_errno("{}/store.id", path_);
    store_id_ = id;
    return {};
}

}  // namespace vtpm
