// SPDX-License-Identifier: Apache-2.0
// SQLite's file system, with faults on demand, a count of what was made durable, and what a power cut would leave.
#pragma once

#include <sqlite3.h>

#include <string>

namespace failing_vfs {

constexpr const char *kName = "failing";

// What changes files, and fails from one such point on, or there only.
enum class Broken {
    kNothing,
    kFull,  // writes fail with SQLITE_FULL: nothing else is counted
    kDisk,  // writes, syncs, truncations, openings and removals fail, each with its own error
};

struct Faults {
    int write_error = SQLITE_OK;  // SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_READONLY: what every write answers
    int sync_error = SQLITE_OK;
    int syncs = 0;  // that succeeded

    Broken broken = Broken::kNothing;
    int at = 0;         // the point, from 0; a write that fails there writes its first half
    bool once = false;  // what comes after succeeds
    int points = 0;     // that were met
    [[nodiscard]] bool met() const { return points > at; }
};

// Registered at the first call; one for the process. Everything works again, and nothing was synced yet.
Faults &faults();

// Copies the database's files as they would be after a power cut: each as it was when it was last synced.
void copy_what_is_durable(const std::string &from_directory, const std::string &to_directory);

}  // namespace failing_vfs
