// SPDX-License-Identifier: Apache-2.0
// Opens a guest's ring for an engine, which itself may open nothing: the descriptors it gets are good for this one
// page and this one event channel. The page itself is never mapped here.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "base/result.hpp"
#include "base/seqpacket.hpp"
#include "shared-protocol/messages.hpp"

namespace vtpm {

// What a guest publishes of its ring: its claims; Xen judges them.
struct RingNumbers {
    std::uint32_t ring_ref;
    std::uint32_t event_channel;
    bool operator==(const RingNumbers &) const = default;
};

struct OpenedRing {
    AttachRing order;
    std::array<UniqueFd, 3> fds;  // as AttachRing says; the third may be empty
};

class RingOpener {
public:
    virtual ~RingOpener() = default;
    virtual Result<OpenedRing> open(std::uint32_t domain, RingNumbers numbers) = 0;
};

std::unique_ptr<RingOpener> make_xen_ring_opener();

}  // namespace vtpm
