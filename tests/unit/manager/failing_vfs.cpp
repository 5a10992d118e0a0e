// SPDX-License-Identifier: Apache-2.0
#include "failing_vfs.hpp"

#include <filesystem>
#include <fstream>
#include <map>
#include <vector>

namespace failing_vfs {
namespace {

Faults state;
sqlite3_vfs vfs;
struct OpenFile {
    std::string name;  // none for a temporary file
    const sqlite3_io_methods *real;
};
std::map<sqlite3_file *, OpenFile> files;
std::map<const sqlite3_io_methods *, sqlite3_io_methods> replaced;  // by the real ones: locking differs
std::map<std::string, std::vector<char>> synced;                    // what a power cut leaves, by name

// Whether this is a point at which the disk fails.
bool fails(bool is_write) {
    if (state.broken == Broken::kNothing || (state.broken == Broken::kFull && !is_write)) return false;
    const int point = state.points++;
    return state.once ? point == state.at : point >= state.at;
}

int write(sqlite3_file *file, const void *data, int size, sqlite3_int64 offset) {
    if (state.write_error != SQLITE_OK) return state.write_error;
    const sqlite3_io_methods *real = files.at(file).real;
    if (!fails(true)) return real->xWrite(file, data, size, offset);
    (void)real->xWrite(file, data, size / 2, offset);
    return state.broken == Broken::kFull ? SQLITE_FULL : SQLITE_IOERR_WRITE;
}

int sync(sqlite3_file *file, int flags) {
    if (state.sync_error != SQLITE_OK) return state.sync_error;
    if (fails(false)) return SQLITE_IOERR_FSYNC;
    ++state.syncs;
    const OpenFile &open = files.at(file);
    if (!open.name.empty()) {
        std::ifstream content(open.name, std::ios::binary);
        synced[open.name].assign(std::istreambuf_iterator<char>(content), {});
    }
    return open.real->xSync(file, flags);
}

int truncate(sqlite3_file *file, sqlite3_int64 size) {
    return fails(false) ? SQLITE_IOERR_TRUNCATE : files.at(file).real->xTruncate(file, size);
}

int close(sqlite3_file *file) {
    const OpenFile open = files.extract(file).mapped();
    return open.real->xClose(file);
}

// The file is the default VFS's own; only its table of functions is replaced, by one with some other entries.
int open(sqlite3_vfs *, const char *name, sqlite3_file *file, int flags, int *out_flags) {
    file->pMethods = nullptr;
    if (fails(false)) return SQLITE_CANTOPEN;
    sqlite3_vfs *base = sqlite3_vfs_find(nullptr);
    const int opened = base->xOpen(base, name, file, flags, out_flags);
    if (opened != SQLITE_OK || file->pMethods == nullptr) return opened;
    const sqlite3_io_methods *real = file->pMethods;
    files[file] = {name == nullptr ? std::string() : std::string(name), real};
    sqlite3_io_methods &methods = replaced.try_emplace(real, *real).first->second;
    methods.xWrite = write;
    methods.xSync = sync;
    methods.xTruncate = truncate;
    methods.xClose = close;
    file->pMethods = &methods;
    return opened;
}

int remove(sqlite3_vfs *, const char *name, int sync_directory) {
    if (fails(false)) return SQLITE_IOERR_DELETE;
    synced.erase(name);
    sqlite3_vfs *base = sqlite3_vfs_find(nullptr);
    return base->xDelete(base, name, sync_directory);
}

}  // namespace

Faults &faults() {
    if (vfs.zName == nullptr) {
        vfs = *sqlite3_vfs_find(nullptr);
        vfs.pNext = nullptr;
        vfs.zName = kName;
        vfs.xOpen = open;
        vfs.xDelete = remove;
        sqlite3_vfs_register(&vfs, 0);
    }
    state = {};
    synced.clear();
    return state;
}

void copy_what_is_durable(const std::string &from_directory, const std::string &to_directory) {
    for (const auto &[name, content] : synced) {
        const std::filesystem::path path = name;
        if (path.parent_path() != from_directory) continue;
        std::ofstream copy(std::filesystem::path(to_directory) / path.filename(), std::ios::binary | std::ios::trunc);
        copy.write(content.data(), static_cast<std::streamsize>(content.size()));
    }
}

}  // namespace failing_vfs
