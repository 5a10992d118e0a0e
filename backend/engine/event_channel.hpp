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
    // Takes the events that are there; what rings afterwards makes fd() readable again.
    virtual void acknowledge() = 0;
    virtual void notify() = 0;
};

}  // namespace vtpm
