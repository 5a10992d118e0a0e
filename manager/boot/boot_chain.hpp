// SPDX-License-Identifier: Apache-2.0
// What the values of PCRs are worth to who approves them: what was measured into each, and what of the boot is in none.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "launch/tcg_log.hpp"
#include "manager/tpm/pcr_values.hpp"

namespace vtpm {

struct BootChain {
    std::map<unsigned, std::string> covers;  // for each PCR of the values
    std::vector<std::string> warnings;
};

// For people, of a log that anyone may have written: nothing is decided by it. Without events: of the values alone.
BootChain boot_chain(const launch::TcgLog &log, const PcrValues &values);

}  // namespace vtpm
