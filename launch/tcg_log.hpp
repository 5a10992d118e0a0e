// SPDX-License-Identifier: Apache-2.0
// The form of a crypto agile event log (PFP 1.06, 10.2.2 and 10.4.5), from whoever wrote it: what is an event, and no
// more. Views borrow from the log.
#pragma once

#include <optional>
#include <vector>

#include "base/bytes.hpp"

namespace vtpm::launch {

struct LogBank {
    std::uint16_t algorithm = 0;  // TPM_ALG_ID
    std::uint16_t digest_size = 0;
};

struct LogDigest {
    std::uint16_t algorithm = 0;
    ByteView value;
};

struct LogEvent {
    std::uint32_t pcr = 0;
    std::uint32_t type = 0;
    std::vector<LogDigest> digests;
    ByteView data;
};

struct TcgLog {
    std::vector<LogBank> banks;    // that the first event (Spec ID Event03) names
    std::vector<LogEvent> events;  // those behind it
};

constexpr std::uint32_t kNoActionEvent = 3;  // EV_NO_ACTION: says something, measures nothing

// None: it is no such log, or one that ends within an event.
std::optional<TcgLog> read_tcg_log(ByteView log);

// The locality of TPM2_Startup, which PCR 0 begins with (10.4.5.3; TCG Part 1, 17.2.3). 0 if the log does not say.
std::uint8_t startup_locality(const TcgLog &log);

// The first event, for these banks: the others follow it.
Bytes spec_id_event(const std::vector<LogBank> &banks);
// One of the others.
Bytes log_event(const LogEvent &event);

}  // namespace vtpm::launch
