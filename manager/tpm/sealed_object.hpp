// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/bytes.hpp"

namespace vtpm {

// A keyedhash object, marshalled: TPM2B_PUBLIC and TPM2B_PRIVATE. And what its PCRs were, one after the other, and the
// events behind them (boot/event_record.hpp), for the error that names those that differ: the TPM has a digest only.
struct SealedObject {
    Bytes pcr_values;
    Bytes public_area;
    Bytes private_area;
    Bytes pcr_events{};
    bool operator==(const SealedObject &) const = default;
};

}  // namespace vtpm
