// SPDX-License-Identifier: Apache-2.0
// xen-vtpm policy: what an approver does on a machine of his own, without any daemon, and what a host then does with
// it.
#pragma once

#include "manager/cli/menu.hpp"

namespace vtpm::cli {

// The PCRs that tell what booted dom0: firmware, boot loader and who signed it, GRUB's commands and files, what a UKI
// was given (decision 0016).
constexpr const char *kUsualPcrs = "sha256:0,2,4,7,8,9,12,13";

void add_policy_commands(const Menu &menu);

}  // namespace vtpm::cli
