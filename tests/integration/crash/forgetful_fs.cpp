// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/crash/forgetful_fs.hpp"

#define FUSE_USE_VERSION 35
#include <fcntl.h>
#include <fmt/format.h>
#include <fuse.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>

#include "base/bytes.hpp"
#include "base/unique_fd.hpp"

namespace vtpm {
namespace {

// To make a file of this name cuts the power.
constexpr const char *kSwitch = "/.cut-power";
constexpr std::size_t kSector = 512;

struct File {
    Bytes now;
    Bytes durable;
    mode_t mode = 0600;
};
using Names = std::map<std::string, std::shared_ptr<File>>;

class Disk {
public:
    explicit Disk(unsigned seed) : random_(seed) {}

    std::shared_ptr<File> find(const std::string &path) {
        const auto found = now_.find(path);
        return found == now_.end() ? nullptr : found->second;
    }
    void create(const std::string &path, mode_t mode) {
        now_[path] = std::make_shared<File>();
        now_[path]->mode = mode & 07777;
    }
    bool remove(const std::string &path) { return now_.erase(path) == 1; }
    // A handle, not 0, until close() or a power cut.
    std::uint64_t open(const std::shared_ptr<File> &file) {
        open_[++last_handle_] = file;
        return last_handle_;
    }
    std::shared_ptr<File> opened(std::uint64_t handle) {
        const auto found = open_.find(handle);
        return found == open_.end() ? nullptr : found->second;
    }
    void close(std::uint64_t handle) { open_.erase(handle); }
    void make_names_durable() { durable_ = now_; }
    [[nodiscard]] const Names &names() const { return now_; }

    void cut_power() {
        open_.clear();
        const auto luck = static_cast<Luck>(random_() % 3);
        if (luck == Luck::kAll || (luck == Luck::kSome && random_() % 2 == 0)) durable_ = now_;
        now_ = durable_;
        for (const auto &[name, file] : now_) file->now = file->durable = survivor(*file, luck);
    }

private:
    enum class Luck { kNone, kSome, kAll };

    Bytes survivor(const File &file, Luck luck) {
        if (luck == Luck::kNone) return file.durable;
        if (luck == Luck::kAll) return file.now;
        Bytes left = file.durable;
        left.resize(random_() % 2 == 0 ? file.now.size() : file.durable.size());
        for (std::size_t at = 0; at < std::min(left.size(), file.now.size()); at += kSector) {
            const std::size_t size = std::min({kSector, left.size() - at, file.now.size() - at});
            if (random_() % 2 == 0) std::memcpy(left.data() + at, file.now.data() + at, size);
        }
        return left;
    }

    std::mt19937 random_;
    Names now_;
    Names durable_;
    std::map<std::uint64_t, std::shared_ptr<File>> open_;
    std::uint64_t last_handle_ = 0;
};

Disk &disk() { return *static_cast<Disk *>(fuse_get_context()->private_data); }

// ---- operations: 0 or a negative errno value ----

// Null: its power was cut, or it is not there.
std::shared_ptr<File> file_of(const char *path, fuse_file_info *info) {
    return info == nullptr || info->fh == 0 ? disk().find(path) : disk().opened(info->fh);
}

int missing(const fuse_file_info *info) { return info == nullptr || info->fh == 0 ? -ENOENT : -EIO; }

int get_attributes(const char *path, struct stat *status, fuse_file_info *info) {
    *status = {};
    status->st_uid = ::getuid();
    status->st_gid = ::getgid();
    if (std::strcmp(path, "/") == 0) {
        status->st_mode = S_IFDIR | 0700;
        status->st_nlink = 2;
        return 0;
    }
    const auto file = file_of(path, info);
    if (!file) return missing(info);
    status->st_mode = S_IFREG | file->mode;
    status->st_nlink = 1;
    status->st_size = static_cast<off_t>(file->now.size());
    status->st_blocks = status->st_size / static_cast<off_t>(kSector);
    return 0;
}

int open_file(const char *path, fuse_file_info *info) {
    const auto file = disk().find(path);
    if (!file) return -ENOENT;
    if ((info->flags & O_TRUNC) != 0) file->now.clear();
    info->fh = disk().open(file);
    info->direct_io = 1;
    return 0;
}

int create_file(const char *path, mode_t mode, fuse_file_info *info) {
    if (std::strcmp(path, kSwitch) == 0) {
        disk().cut_power();
        return -ECANCELED;
    }
    if (!disk().find(path)) disk().create(path, mode);
    return open_file(path, info);
}

int release_file(const char *, fuse_file_info *info) {
    disk().close(info->fh);
    return 0;
}

int read_file(const char *path, char *buffer, std::size_t size, off_t offset, fuse_file_info *info) {
    const auto file = file_of(path, info);
    if (!file) return missing(info);
    const auto at = static_cast<std::size_t>(offset);
    if (at >= file->now.size()) return 0;
    const std::size_t part = std::min(size, file->now.size() - at);
    std::memcpy(buffer, file->now.data() + at, part);
    return static_cast<int>(part);
}

int write_file(const char *path, const char *buffer, std::size_t size, off_t offset, fuse_file_info *info) {
    const auto file = file_of(path, info);
    if (!file) return missing(info);
    const auto at = static_cast<std::size_t>(offset);
    if (file->now.size() < at + size) file->now.resize(at + size);
    std::memcpy(file->now.data() + at, buffer, size);
    return static_cast<int>(size);
}

int truncate_file(const char *path, off_t size, fuse_file_info *info) {
    const auto file = file_of(path, info);
    if (!file) return missing(info);
    file->now.resize(static_cast<std::size_t>(size));
    return 0;
}

int sync_file(const char *path, int, fuse_file_info *info) {
    const auto file = file_of(path, info);
    if (!file) return missing(info);
    file->durable = file->now;
    return 0;
}

int sync_directory(const char *, int, fuse_file_info *) {
    disk().make_names_durable();
    return 0;
}

int remove_file(const char *path) { return disk().remove(path) ? 0 : -ENOENT; }

int list_directory(const char *, void *buffer, fuse_fill_dir_t fill, off_t, fuse_file_info *, fuse_readdir_flags) {
    for (const char *self : {".", ".."}) (void)fill(buffer, self, nullptr, 0, fuse_fill_dir_flags{});
    for (const auto &[path, file] : disk().names())
        (void)fill(buffer, path.c_str() + 1, nullptr, 0, fuse_fill_dir_flags{});
    return 0;
}

int change_mode(const char *path, mode_t mode, fuse_file_info *info) {
    const auto file = file_of(path, info);
    if (!file) return std::strcmp(path, "/") == 0 ? 0 : missing(info);
    file->mode = mode & 07777;
    return 0;
}

int change_owner(const char *, uid_t, gid_t, fuse_file_info *) { return 0; }
int change_times(const char *, const timespec *, fuse_file_info *) { return 0; }

// The kernel is to remember nothing: it does not see a power cut.
void *initialise(fuse_conn_info *, fuse_config *config) {
    config->entry_timeout = config->attr_timeout = config->negative_timeout = 0;
    config->hard_remove = 1;
    return fuse_get_context()->private_data;
}

fuse_operations operations() {
    fuse_operations all{};
    all.init = initialise;
    all.getattr = get_attributes;
    all.open = open_file;
    all.create = create_file;
    all.release = release_file;
    all.read = read_file;
    all.write = write_file;
    all.truncate = truncate_file;
    all.fsync = sync_file;
    all.fsyncdir = sync_directory;
    all.unlink = remove_file;
    all.readdir = list_directory;
    all.chmod = change_mode;
    all.chown = change_owner;
    all.utimens = change_times;
    return all;
}

[[noreturn]] void be_file_system(const char *path, unsigned seed, int mounted) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    Disk disk(seed);
    std::array<char *, 1> arguments{const_cast<char *>("forgetful-fs")};  // FUSE's interface knows no const
    fuse_args args{static_cast<int>(arguments.size()), arguments.data(), 0};
    const fuse_operations all = operations();
    fuse *file_system = fuse_new(&args, &all, sizeof all, &disk);
    if (file_system == nullptr || fuse_mount(file_system, path) != 0) ::_exit(1);
    (void)!::write(mounted, "", 1);
    ::_exit(fuse_loop(file_system) == 0 ? 0 : 1);
}

}  // namespace

ForgetfulFs::ForgetfulFs(std::string path, unsigned seed) : path_(std::move(path)) {
    int ends[2];
    if (::mkdir(path_.c_str(), 0700) != 0 || ::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error(path_);
    const UniqueFd told(ends[0]);
    UniqueFd tells(ends[1]);
    pid_ = ::fork();
    if (pid_ == 0) be_file_system(path_.c_str(), seed, tells.get());
    tells.reset();
    char mounted = 0;
    if (pid_ < 0 || ::read(told.get(), &mounted, 1) != 1)
        throw std::runtime_error(fmt::format("{} cannot be mounted: this test needs root and /dev/fuse", path_));
}

ForgetfulFs::~ForgetfulFs() {
    (void)::umount2(path_.c_str(), MNT_DETACH);
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

void ForgetfulFs::cut_power() {
    const UniqueFd none(::open((path_ + kSwitch).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    if (none || errno != ECANCELED) throw std::runtime_error(path_ + " has no power to cut");
}

}  // namespace vtpm
