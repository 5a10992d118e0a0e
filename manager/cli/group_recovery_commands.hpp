// SPDX-License-Identifier: Apache-2.0
// Recovery keys, and xen-vtpm group recover and accept-rollback: for the day on which the hardware TPM or the store is
// lost.
#pragma once

#include "manager/cli/menu.hpp"

namespace vtpm::cli {

void add_group_recovery_commands(const Menu &group);

}  // namespace vtpm::cli
