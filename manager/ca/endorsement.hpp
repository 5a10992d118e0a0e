// SPDX-License-Identifier: Apache-2.0
// A vTPM's certified endorsement keys as its row of the inventory and its backups have them.
#pragma once

#include <vector>

#include "base/result.hpp"
#include "manager/tpm/endorsement_key.hpp"

namespace vtpm {

constexpr std::size_t kMaxEndorsement = 16'384;  // bytes

struct Endorsement {
    std::vector<CertifiedKey> keys;
    bool reissue = false;  // their certificates are to be issued again at the next power-on
};

// No keys: nothing.
Bytes encode_endorsement(const Endorsement &endorsement);
// kRefused: damaged.
Result<Endorsement> decode_endorsement(ByteView bytes);
// What decode_endorsement() would say.
bool awaits_reissue(ByteView bytes);

}  // namespace vtpm
