// SPDX-License-Identifier: Apache-2.0
// sealing = "tpm": the group keys are sealed by the hardware TPM.
#pragma once

#include "manager/keys/sealer.hpp"

namespace vtpm {

Result<std::unique_ptr<Sealer>> open_tpm_sealer(const std::string &tcti, ByteView pinned);

}  // namespace vtpm
