// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/bytes.hpp"

namespace vtpm {

// A key that one TPM made and can load, marshalled: TPM2B_PUBLIC and TPM2B_PRIVATE.
struct TpmKey {
    Bytes public_area;
    Bytes private_area;
    bool operator==(const TpmKey &) const = default;
};

}  // namespace vtpm
