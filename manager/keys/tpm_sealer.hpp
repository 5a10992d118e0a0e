// SPDX-License-Identifier: Apache-2.0
// sealing = "tpm": the group keys are sealed by the hardware TPM.
#pragma once

#include "manager/keys/sealer.hpp"

namespace vtpm {

// `event_log`: of the firmware, as the kernel gives it; refusals then name events. It may be absent.
Result<std::unique_ptr<Sealer>> open_tpm_sealer(const std::string &tcti, ByteView pinned, const std::string &event_log);

}  // namespace vtpm
