// SPDX-License-Identifier: Apache-2.0
// A launch's event log: as a firmware's, and in one form only.
#pragma once

#include "launch/events.hpp"

namespace vtpm::launch {

constexpr std::size_t kMaxLog = 64UL * 1024;  // bytes

struct EventLog {
    Banks banks;  // in which every event has a digest
    Events events;
    bool operator==(const EventLog &) const = default;
};

// kInvalid: an event lacks a bank's digest, or the log would be longer than kMaxLog.
Result<Bytes> write_event_log(const EventLog &log);

// A log of whoever recorded a launch. kInvalid: write_event_log() would not write it so; it is empty, or measures
// something in a PCR that a guest may reset (16 and up).
Result<EventLog> read_event_log(ByteView bytes);

// For a TPM that has not all of its banks. kInvalid: a bank that the log has not.
Result<EventLog> in_banks(const EventLog &log, const Banks &banks);

}  // namespace vtpm::launch
