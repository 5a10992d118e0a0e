// SPDX-License-Identifier: Apache-2.0
// The doorbell between a guest and its TPM.
#pragma once

#include <cstdint>
#include <memory>

#include "base/unique_fd.hpp"

namespace vtpm {

class EventChannel {
public:
    // `evtchn` has exactly `port` bound, and is confined to its guest (xenevtchn_restrict) by whoever opened it.
    static std::unique_ptr<EventChannel> xen(UniqueFd evtchn, std::uint32_t port);
    // Two eventfds in the place of an event channel.
    static std::unique_ptr<EventChannel> loopback(UniqueFd wait, UniqueFd notify);

    virtual ~EventChannel() = default;
    // Readable when the guest has rung.
    [[nodiscard]] virtual int fd() const = 0;
    // Between the two the page is looked at. What rings after begin() makes fd() readable again, after end() at the
    // latest.
    virtual void begin() = 0;
    virtual void end() = 0;
    virtual void notify() = 0;
};

}  // namespace vtpm
