// SPDX-License-Identifier: Apache-2.0
// What makes a sealed object worthless for good: TPM2_PolicyNV of an NV counter (TCG Part 1, 37.2.4), which nobody can
// set back.
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include "base/bytes.hpp"

namespace vtpm {

// A counter of the hardware TPM, and what it is at.
struct Count {
    std::uint32_t index = 0;
    std::uint64_t value = 0;
};

// The Name of a counter as we define them, once it counts: no other index can stand in for it.
TPM2B_NAME counter_name(std::uint32_t index);
// What TPM2_PolicyNV compares.
Bytes content_of(const Count &count);

}  // namespace vtpm
