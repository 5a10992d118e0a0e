// SPDX-License-Identifier: Apache-2.0
// xen-vtpm policy: what an approver does on a machine of his own, without any daemon, and what a host then does with
// it.
#pragma once

#include "manager/cli/menu.hpp"

namespace vtpm::cli {

void add_policy_commands(const Menu &menu);

}  // namespace vtpm::cli
