// SPDX-License-Identifier: Apache-2.0
// The engine's part in shared-protocol/attest_command.hpp.
#pragma once

#include "backend/engine/state_channel.hpp"
#include "base/bytes.hpp"

namespace vtpm {

bool is_attest_command(ByteView command);

class AttestationCommand {
public:
    // The response, borrowed until the next call. An offset of 0 asks the manager; others read on in what it gave.
    ByteView answer(ByteView command, ManagerChannel &channel);

private:
    ByteView fail(std::uint32_t code);
    std::uint32_t fetch(ByteView nonce, ManagerChannel &channel);

    Bytes nonce_;
    Bytes attestation_;
    Bytes response_;
};

}  // namespace vtpm
