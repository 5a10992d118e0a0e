// SPDX-License-Identifier: Apache-2.0
// An approver's public key as the TPM knows it (TPMT_PUBLIC) and as OpenSSL does, and the way between the two. Which
// keys approvers may have is decided here.
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include <optional>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "manager/policy/openssl.hpp"

namespace vtpm {

// kInvalid: "this is {}", and which keys are accepted.
[[nodiscard]] tl::unexpected<Error> not_accepted(std::string_view found);

// kInvalid unless `key` is of a kind, size and form that approvers may have.
Result<TPMT_PUBLIC> public_area_of(const EVP_PKEY *key);
// Our area for the key that `given` holds, whatever else that says. Nothing if it holds none of an accepted kind.
std::optional<TPMT_PUBLIC> public_area_like(const TPMT_PUBLIC &given);

// RSA with the exponent 65537, P-256 or P-384. Null if the numbers in `area.unique` are not such a key's.
EvpKey openssl_key(const TPMT_PUBLIC &area);

Bytes marshalled(const TPMT_PUBLIC &area);
Bytes marshalled(const TPM2B_PUBLIC &area);

}  // namespace vtpm
