// SPDX-License-Identifier: Apache-2.0
#include "manager/pool/next_claim.hpp"

namespace vtpm::pool {

Claim next_claim(const OwnerRecord *owner, const std::string &host, const Nonce &session, const Heard::Sign *sign,
                 const Timing &timing, Time now) {
    if (owner == nullptr) return Claim::kTake;
    if (owner->host == host) return owner->session == session ? Claim::kMine : Claim::kTake;
    if (sign == nullptr) return Claim::kAsk;
    if (!sign->record) return Claim::kSeize;
    return now - sign->at < timing.silence() ? Claim::kWait : Claim::kFence;
}

}  // namespace vtpm::pool
