// SPDX-License-Identifier: Apache-2.0
// xen-vtpm status, list, show, create, delete, reissue.
#pragma once

#include "manager/cli/menu.hpp"

namespace vtpm::cli {

void add_vtpm_commands(const Menu &menu);

}  // namespace vtpm::cli
