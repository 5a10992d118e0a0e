// SPDX-License-Identifier: Apache-2.0
// A vTPM's certified endorsement keys as its row of the inventory and its backups have them.
#pragma once

#include <vector>

#include "base/result.hpp"
#include "manager/ca/endorsement_key.hpp"

namespace vtpm {

constexpr std::size_t kMaxEndorsement = 16'384;  // bytes

// No keys: nothing.
Bytes encode_endorsement(const std::vector<CertifiedKey> &keys);
// kRefused: damaged.
Result<std::vector<CertifiedKey>> decode_endorsement(ByteView bytes);

}  // namespace vtpm
