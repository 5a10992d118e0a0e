// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include "base/bytes.hpp"
#include "base/result.hpp"

namespace vtpm {

// A TPM's ECDSA signature with SHA-256 as a DER ECDSA-Sig-Value (RFC 3279, 2.2.3). kRefused: it is another kind.
Result<Bytes> ecdsa_of(const TPMT_SIGNATURE &signature);

}  // namespace vtpm
