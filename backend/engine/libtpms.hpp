// SPDX-License-Identifier: Apache-2.0
// libtpms, whose state is the whole process's: at most one of these at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"
#include "shared-protocol/messages.hpp"

namespace vtpm {

class Libtpms {
public:
    explicit Libtpms(TpmVersion version);
    ~Libtpms();
    Libtpms(const Libtpms &) = delete;
    Libtpms &operator=(const Libtpms &) = delete;

    // ---- what libtpms is given, and what it gives ----

    SecretBytes durable;                 // the permanent state as last stored
    std::optional<SecretBytes> changed;  // the permanent state that it wants stored
    bool may_manufacture = false;        // without a permanent state it makes a new TPM; otherwise it does not start
    std::string algorithms;              // that the new TPM 2.0 is to have; empty: all

    // TPM_Init: from `changed` or `durable`, and from a volatile state, if it is not empty. kRefused: not accepted.
    Result<> start(ByteView volatile_state = {});
    void stop();
    // Executes a command. The response is borrowed until the next one; empty: libtpms has failed.
    ByteView process(ByteView command);
    [[nodiscard]] Result<SecretBytes> state(StateKind kind) const;

    // For its callbacks.
    [[nodiscard]] const SecretBytes &volatile_state() const { return volatile_state_; }

private:
    TpmVersion version_;
    SecretBytes volatile_state_;        // while it starts
    std::uint8_t *response_ = nullptr;  // libtpms' malloc'ed buffer, reused for each command
    std::uint32_t response_capacity_ = 0;
};

}  // namespace vtpm
