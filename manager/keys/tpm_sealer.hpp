// SPDX-License-Identifier: Apache-2.0
// sealing = "tpm": the group keys are sealed by the hardware TPM.
#pragma once

#include <functional>

#include "manager/hardware_tpm/storage_primary.hpp"
#include "manager/keys/sealer.hpp"

namespace vtpm {

// Asked for at each connection: nothing is kept.
using GivePasswords = std::function<Result<HierarchyPasswords>()>;

// `event_log`: of the firmware, as the kernel gives it; refusals then name events. It may be absent.
Result<std::unique_ptr<Sealer>> open_tpm_sealer(const std::string &tcti, ByteView pinned, const std::string &event_log,
                                                GivePasswords passwords = {});

}  // namespace vtpm
