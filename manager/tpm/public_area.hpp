// SPDX-License-Identifier: Apache-2.0
// Public keys as the TPM knows them (TPMT_PUBLIC) and as OpenSSL does, and the way between the two. Which keys
// approvers may have is decided here.
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include <optional>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "manager/crypto/openssl.hpp"

namespace vtpm {

constexpr std::size_t kCoordinate = 32;  // bytes of a P-256 coordinate
constexpr std::size_t kMaxArea = 1024;   // a marshalled TPM2B_PUBLIC, in files

// kInvalid: "this is {}", and which keys are accepted.
[[nodiscard]] tl::unexpected<Error> not_accepted(std::string_view found);

// kInvalid unless `key` is of a kind, size and form that approvers may have.
Result<TPMT_PUBLIC> public_area_of(const EVP_PKEY *key);
// Our area for the key that `given` holds, whatever else that says. Nothing if it holds none of an accepted kind.
std::optional<TPMT_PUBLIC> public_area_like(const TPMT_PUBLIC &given);

// ECDSA with SHA-256 on P-256, its two numbers zero.
TPMT_PUBLIC ecdsa_p256(TPMA_OBJECT attributes);

// The area in `public_area`, a marshalled TPM2B_PUBLIC, if that is `form` byte for byte, but for the key's own numbers,
// whose sizes are those in `form`.
std::optional<TPMT_PUBLIC> area_of_form(ByteView public_area, const TPMT_PUBLIC &form);

// RSA with the exponent 65537, P-256 or P-384. Null if the numbers in `area.unique` are not such a key's.
EvpKey openssl_key(const TPMT_PUBLIC &area);

// TCG Part 1, 16: nameAlg (SHA-256 or SHA-384) in two bytes, and the digest of the area; what a TPM2B_NAME has inside.
Bytes tpm_name(const TPMT_PUBLIC &area);

Bytes marshalled(const TPMT_PUBLIC &area);
Bytes marshalled(const TPM2B_PUBLIC &area);

}  // namespace vtpm
