// SPDX-License-Identifier: Apache-2.0
// The event log of a launch, from whoever recorded it: it has one form, and measures nothing where a guest may reset.
#include "launch/event_log.hpp"

#include <algorithm>

#include "launch/pcrs.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    using namespace vtpm;
    using namespace vtpm::launch;
    const ByteView bytes(data, size);
    const auto log = read_event_log(bytes);
    if (!log) return 0;
    require(size <= kMaxLog && !log->events.empty() && !log->banks.empty(), "a log is bounded, and says something");
    const auto again = write_event_log(*log);
    require(again && std::ranges::equal(*again, bytes), "a log has one form");
    for (const Event &event : log->events) require(event.pcr < 16, "no PCR that a guest may reset");
    for (const Hash bank : log->banks) {
        require(pcrs_after(log->events, bank).has_value(), "each event is in each bank");
        require(in_banks(*log, {bank}).has_value(), "a log can be told in one bank");
    }
    return 0;
}
