// SPDX-License-Identifier: Apache-2.0
// sealing = "tpm": the group keys are sealed by the hardware TPM.
#pragma once

#include "manager/hardware_tpm/pcr_selection.hpp"
#include "manager/keys/sealer.hpp"

namespace vtpm {

// `pcrs` go into the policy of keys that are sealed from now on; a sealed key carries its own.
Result<std::unique_ptr<Sealer>> open_tpm_sealer(const std::string &tcti, const PcrSelection &pcrs, ByteView pinned);

}  // namespace vtpm
