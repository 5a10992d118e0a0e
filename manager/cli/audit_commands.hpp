// SPDX-License-Identifier: Apache-2.0
// xen-vtpm audit.
#pragma once

#include "manager/cli/menu.hpp"

namespace vtpm::cli {

void add_audit_commands(const Menu &menu);

}  // namespace vtpm::cli
