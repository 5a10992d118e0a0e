// SPDX-License-Identifier: Apache-2.0
// What a host that wants a vTPM does next: a function of who has it and of what was heard of him.
#pragma once

#include <cstdint>

#include "manager/pool/heard.hpp"
#include "manager/pool/records.hpp"

namespace vtpm::pool {

enum class Claim : std::uint8_t {
    kTake,   // nobody has it, or this host under a former session
    kMine,   // this host has it
    kAsk,    // of that host nothing was ever heard
    kWait,   // it may still serve
    kFence,  // nothing has been heard for so long that it serves no more
    kSeize,  // it is fenced
};

// `owner`: nothing, if it is free. `sign`: what was heard of the owner's host.
Claim next_claim(const OwnerRecord *owner, const std::string &host, const Nonce &session, const Heard::Sign *sign,
                 const Timing &timing, Time now);

}  // namespace vtpm::pool
