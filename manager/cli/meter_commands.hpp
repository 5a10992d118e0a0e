// SPDX-License-Identifier: Apache-2.0
// What guests make of their TPMs, as their engines count it (shared-protocol/meter.hpp).
#pragma once

#include <chrono>

#include "manager/cli/menu.hpp"

namespace vtpm::cli {

void add_meter_commands(const Menu &menu);

// What happened between two answers of ListMeters, for each device of the later one, the busiest first. An engine that
// was started between them has counted from nothing; a device that has gone is not there. `names`: of vTPMs, by UUID.
Json top_of(const Json &before, const Json &after, std::chrono::duration<double> between, const Json &names);
// As many rows as that; 0: all.
std::string top_text(const Json &top, std::size_t rows);

}  // namespace vtpm::cli
