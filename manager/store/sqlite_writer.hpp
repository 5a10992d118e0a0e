// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "manager/store/change.hpp"
#include "manager/store/database.hpp"

namespace vtpm {

// All of it in one transaction, durable when this returns.
Result<> write_change(Database &database, const Change &change);

}  // namespace vtpm
