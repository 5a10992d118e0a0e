// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "manager/store/change.hpp"
#include "manager/store/database.hpp"

namespace vtpm {

// All of it in one transaction, durable when this returns. `has_staged`: some vTPM may be staged, before it or by it.
Result<> write_change(Database &database, const Change &change, bool has_staged);

}  // namespace vtpm
