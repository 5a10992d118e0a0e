// SPDX-License-Identifier: Apache-2.0
// sealing = "tpm": the group keys are sealed by the hardware TPM.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "manager/groups/sealer.hpp"
#include "manager/hardware_tpm/hardware_tpm.hpp"

namespace vtpm {

// Asked for at each connection: nothing is kept.
using GivePasswords = std::function<Result<HierarchyPasswords>()>;

// What one sealer leaves to the next: the connection, with its session and the keys that are loaded there, until
// somebody says disconnect(); and what makes the next connection quicker. All use it in one thread, and close before it
// goes.
struct TpmReuse {
    std::string tcti{};
    std::optional<HardwareTpm> tpm{};
    SavedPrimary primary{};
    void disconnect() { tpm.reset(); }
};

// `event_log`: of the firmware, as the kernel gives it; refusals then name events. It may be absent.
Result<std::unique_ptr<Sealer>> open_tpm_sealer(const std::string &tcti, ByteView pinned, const std::string &event_log,
                                                GivePasswords passwords = {},
                                                std::shared_ptr<TpmReuse> reuse = std::make_shared<TpmReuse>());

}  // namespace vtpm
