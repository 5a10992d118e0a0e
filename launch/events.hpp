// SPDX-License-Identifier: Apache-2.0
// What a launch extends into a vTPM's PCRs, as events of TCG's PC Client Platform Firmware Profile (PFP) 1.06, 10: so
// that what reads the log of a firmware reads this one (systemd-pcrlock, tpm2_eventlog). Which events, and why:
// docs/protocol.md.
#pragma once

#include <vector>

#include "launch/measure.hpp"

namespace vtpm::launch {

// PFP 1.06, 10.4.1: the types that a launch has.
enum class EventType : std::uint32_t {
    kNoAction = 0x0000'0003,
    kSeparator = 0x0000'0004,
    kEventTag = 0x0000'0006,
    kCrtmVersion = 0x0000'0008,
    kIpl = 0x0000'000d,
    kEfiApplication = 0x8000'0003,  // EV_EFI_BOOT_SERVICES_APPLICATION
    kEfiAction = 0x8000'0007,
};

struct Event {
    unsigned pcr = 0;
    EventType type = EventType::kNoAction;
    Digests digests;  // that the PCR is extended by
    Bytes data;       // what the log has of it
    bool operator==(const Event &) const = default;
};
using Events = std::vector<Event>;

// A launch that was measured. kInvalid: the command line is no UTF-8, or too long for a log.
Result<Events> launch_events(const MeasuredLaunch &launch);

// What a PCR of the host is while its guest's TPM is powered on: one event of the vTPM's PCR with that number, whose
// digest is over the value, which stands behind the tag 0x58564850 in the log.
Result<Event> host_event(unsigned pcr, ByteView value, const Banks &banks);

// A guest of which nobody measured what it booted: error separators in PCRs 0 to 7, and a marker in each of those that
// a loader would extend. No guest can reach the values of a launch from there.
Result<Events> unmeasured_events(const Banks &banks);

}  // namespace vtpm::launch
