// SPDX-License-Identifier: Apache-2.0
// xen-vtpm group: vTPMs whose keys open together.
#pragma once

#include "manager/cli/menu.hpp"

namespace vtpm::cli {

void add_group_commands(const Menu &menu);

}  // namespace vtpm::cli
