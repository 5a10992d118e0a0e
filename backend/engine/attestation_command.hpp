// SPDX-License-Identifier: Apache-2.0
// The one command that our TPM 2.0 has beyond the specification, a vendor's (TCG Part 2, 6.5.2: V is set): the guest
// asks for an attestation of its vTPM, which the manager makes. docs/attestation.md describes it.
#pragma once

#include "backend/engine/state_channel.hpp"
#include "base/bytes.hpp"

namespace vtpm {

// TPM_ST_NO_SESSIONS, size, code, TPM2B_DATA nonce, UINT32 offset. Response: UINT32 size of the whole, TPM2B of the
// part that begins at the offset.
constexpr std::uint32_t kAttestCommand = 0x20005854;

bool is_attest_command(ByteView command);

class AttestationCommand {
public:
    // The response, borrowed until the next call. An offset of 0 asks the manager; others read on in what it gave.
    ByteView answer(ByteView command, StateChannel &channel);

private:
    ByteView fail(std::uint32_t code);
    std::uint32_t fetch(ByteView nonce, StateChannel &channel);

    Bytes nonce_;
    Bytes attestation_;
    Bytes response_;
};

}  // namespace vtpm
