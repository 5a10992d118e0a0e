// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include <functional>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "manager/policy/openssl.hpp"

namespace vtpm {

// A CA's key as certificates need it: ECDSA on P-256 with SHA-256, whose private half may be in a TPM.
struct CaKey {
    EvpKey public_key;
    // Of a SHA-256 digest, as a DER ECDSA-Sig-Value (RFC 3279, 2.2.3).
    std::function<Result<Bytes>(ByteView digest)> sign;
};

// As a TPM makes it, its two numbers zero: it never leaves that TPM.
TPMT_PUBLIC ca_key_form();

}  // namespace vtpm
