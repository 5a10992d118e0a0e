// SPDX-License-Identifier: Apache-2.0
// xen-vtpm backup, export, import and store.
#pragma once

#include "manager/cli/menu.hpp"

namespace vtpm::cli {

void add_store_commands(const Menu &menu);

}  // namespace vtpm::cli
