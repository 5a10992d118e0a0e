// SPDX-License-Identifier: Apache-2.0
// xen-vtpm config: what the manager would say of its configuration.
#pragma once

#include "manager/cli/menu.hpp"

namespace vtpm::cli {

void add_config_commands(const Menu &menu);

}  // namespace vtpm::cli
