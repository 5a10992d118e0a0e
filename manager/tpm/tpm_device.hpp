// SPDX-License-Identifier: Apache-2.0
// Which of the kernel's TPMs is the machine's. Its number is not the same for ever: a driver that is bound anew may
// give it another. The device's name in sysfs (MSFT0101:00, spi0.0) stays.
#pragma once

#include <string>

#include "base/result.hpp"

namespace vtpm {

struct TpmDevice {
    unsigned number = 0;  // /dev/tpm1, /dev/tpmrm1
    std::string name;

    // As tss2-tctildr reads it: through the kernel's resource manager.
    [[nodiscard]] std::string tcti() const { return fmt::format("device:/dev/tpmrm{}", number); }
};

// The TPM 2.0 of this `name`; without one, the only one that there is. TPMs that the kernel or Xen makes up
// (vtpm_proxy, xen-tpmfront) are none. kUnavailable: there is none now. kRefused: there are several.
Result<TpmDevice> find_hardware_tpm(const std::string &name, const std::string &sysfs = "/sys");

}  // namespace vtpm
