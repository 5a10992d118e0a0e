// SPDX-License-Identifier: Apache-2.0
#include "failing_vfs.hpp"

#include <map>

namespace failing_vfs {
namespace {

Faults state;
sqlite3_vfs vfs;
const sqlite3_io_methods *real = nullptr;  // xWrite and xSync are the same for all files of the default VFS,
std::map<const sqlite3_io_methods *, sqlite3_io_methods> replaced;  // the locking is not

int write(sqlite3_file *file, const void *data, int size, sqlite3_int64 offset) {
    return state.write_error != SQLITE_OK ? state.write_error : real->xWrite(file, data, size, offset);
}

int sync(sqlite3_file *file, int flags) {
    if (state.sync_error != SQLITE_OK) return state.sync_error;
    ++state.syncs;
    return real->xSync(file, flags);
}

// The file is the default VFS's own; only its table of functions is replaced, by one with two other entries.
int open(sqlite3_vfs *, const char *name, sqlite3_file *file, int flags, int *out_flags) {
    sqlite3_vfs *base = sqlite3_vfs_find(nullptr);
    const int opened = base->xOpen(base, name, file, flags, out_flags);
    if (opened != SQLITE_OK || file->pMethods == nullptr) return opened;
    real = file->pMethods;
    sqlite3_io_methods &methods = replaced.try_emplace(real, *real).first->second;
    methods.xWrite = write;
    methods.xSync = sync;
    file->pMethods = &methods;
    return opened;
}

}  // namespace

Faults &faults() {
    if (vfs.zName == nullptr) {
        vfs = *sqlite3_vfs_find(nullptr);
        vfs.pNext = nullptr;
        vfs.zName = kName;
        vfs.xOpen = open;
        sqlite3_vfs_register(&vfs, 0);
    }
    state = {};
    return state;
}

}  // namespace failing_vfs
