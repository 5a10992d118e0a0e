// SPDX-License-Identifier: Apache-2.0
// The firmware's log of what it measured (TCG PC Client Platform Firmware Profile, 10): the words behind PCR values.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "manager/tpm/pcr_values.hpp"

namespace vtpm {

struct BootEvent {
    unsigned pcr = 0;
    std::string type;  // the profile's name, such as "EV_EFI_VARIABLE_AUTHORITY"
    Bytes digest;      // that the PCR was extended by, in the bank that was asked for
    std::string text;  // what the event says of itself, as far as it is text
};

struct BootLog {
    std::vector<BootEvent> events;
    std::uint8_t startup_locality = 0;  // of TPM2_Startup: PCR 0 begins with it
};

// The events of the PCRs of `pcrs`, in their order. kInvalid: this is no such log, or one without the bank.
Result<BootLog> parse_event_log(ByteView log, const PcrSelection &pcrs);

// What the PCRs are after these events, if nothing else was measured.
Result<PcrValues> replayed(const BootLog &log, const PcrSelection &pcrs);

}  // namespace vtpm
