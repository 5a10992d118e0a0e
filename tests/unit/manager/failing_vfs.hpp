// SPDX-License-Identifier: Apache-2.0
// SQLite's file system, with faults on demand and a count of what was made durable.
#pragma once

#include <sqlite3.h>

namespace failing_vfs {

constexpr const char *kName = "failing";

struct Faults {
    int write_error = SQLITE_OK;  // SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_READONLY: what every write answers
    int sync_error = SQLITE_OK;
    int syncs = 0;  // that succeeded
};

// Registered at the first call; one for the process.
Faults &faults();

}  // namespace failing_vfs
