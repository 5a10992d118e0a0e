// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "manager/store/database.hpp"

namespace vtpm {

// Durability and locking of this connection. kInUse: another process has the database open.
Result<> configure(Database &database);

// The schema of this program's version: created in an empty database, otherwise checked. `may_create`: an empty
// database is a first start; if not, it is a loss.
Result<> ensure_schema(Database &database, bool may_create);

// Whether this program could open the database at `path`, by the version in its header, which is read while another
// process has it open. kRefused: it could not. A file that is not there, or has no header yet, is no obstacle.
Result<> require_known_schema(const std::string &path);

}  // namespace vtpm
