// SPDX-License-Identifier: Apache-2.0
// xen-vtpm attestation and host: given in dom0, or asked for by a guest of its own TPM; and verified by somebody far
// away, who has neither TPM nor Xen.
#pragma once

#include "manager/cli/menu.hpp"

namespace vtpm::cli {

void add_attestation_commands(const Menu &menu);

}  // namespace vtpm::cli
