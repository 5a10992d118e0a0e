// SPDX-License-Identifier: Apache-2.0
// The one command that our TPM 2.0 has beyond the specification, a vendor's (TCG Part 2, 6.5.2: V is set): the guest
// asks for an attestation of its vTPM, which the manager makes. docs/attestation.md describes it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vtpm {

// TPM_ST_NO_SESSIONS, size, code, TPM2B_DATA nonce, UINT32 offset. Response: UINT32 size of the whole, TPM2B of the
// part that begins at the offset.
constexpr std::uint32_t kAttestCommand = 0x20005854;

constexpr std::size_t kMinAttestNonce = 8;
constexpr std::size_t kMaxAttestNonce = 64;

}  // namespace vtpm
