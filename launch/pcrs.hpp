// SPDX-License-Identifier: Apache-2.0
// What events do to PCRs.
#pragma once

#include <map>

#include "launch/events.hpp"

namespace vtpm::launch {

// One TPM2_PCR_Extend (TCG Part 3, 22.2): a PCR, and a digest of each bank.
struct Extend {
    unsigned pcr = 0;
    Digests digests;
};
// In the order of the events; those that measure nothing are not among them.
std::vector<Extend> extends_of(const Events &events);

using PcrBank = std::map<unsigned, Bytes>;  // values by number; those that are not in it are zero

// From zero. kInvalid: an event lacks a digest of `bank`. kSystem: OpenSSL failed.
Result<PcrBank> pcrs_after(const Events &events, Hash bank);

// What an extend makes of a PCR (TCG Part 1, 17.2): the digest over its value and then the new digest.
Result<Bytes> extended(ByteView value, ByteView digest, Hash bank);

}  // namespace vtpm::launch
