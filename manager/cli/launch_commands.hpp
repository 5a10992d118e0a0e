// SPDX-License-Identifier: Apache-2.0
// xen-vtpm launch and eventlog: what a measured launch puts into a guest's PCRs, and which launches an approver signed.
#pragma once

#include "manager/cli/menu.hpp"

namespace vtpm::cli {

void add_launch_commands(const Menu &menu);

}  // namespace vtpm::cli
