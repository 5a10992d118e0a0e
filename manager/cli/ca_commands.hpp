// SPDX-License-Identifier: Apache-2.0
// xen-vtpm ca: who certifies the endorsement keys of a group's vTPMs.
#pragma once

#include "manager/cli/menu.hpp"

namespace vtpm::cli {

void add_ca_commands(const Menu &menu);

}  // namespace vtpm::cli
