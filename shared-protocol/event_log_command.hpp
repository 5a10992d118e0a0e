// SPDX-License-Identifier: Apache-2.0
// The other command that our TPM 2.0 has beyond the specification, a vendor's (TCG Part 2, 6.5.2: V is set): its guest
// reads the log of what was extended before it ran. docs/measured-launch.md describes it.
#pragma once

#include <cstdint>

#include "shared-protocol/tpmif.h"

namespace vtpm {

// TPM_ST_NO_SESSIONS, size, code, UINT32 offset. Response: UINT32 size of the whole, 0 if there is none, TPM2B of the
// part that begins at the offset.
constexpr std::uint32_t kReadEventLog = TPMIF_TPM2_CC_READ_EVENT_LOG;

// Of the manager to an engine only, in PowerOnCommands: header, and the log.
constexpr std::uint32_t kGiveEventLog = 0x20005856;

}  // namespace vtpm
