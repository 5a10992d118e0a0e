// SPDX-License-Identifier: Apache-2.0
// A TPM that takes as long as chips do: what a TpmProxy has each command meet.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>

#include "tpm_proxy.hpp"

class SlowChip {
public:
    // `pace` 0: nothing takes longer, and all is counted.
    explicit SlowChip(double pace = 1) : state_(std::make_shared<State>()) { state_->pace = pace; }

    // For TpmProxy::set(). The first commands are answered with TPM_RC_TESTING, and each hundredth with TPM_RC_RETRY.
    [[nodiscard]] TpmProxy::Fates fates() const;

    // How often a command came, since it was last asked.
    unsigned take_count(TPM2_CC command);
    // For how long the chip worked.
    [[nodiscard]] std::chrono::milliseconds busy() const;

private:
    struct State {
        double pace = 1;
        mutable std::mutex mutex;  // of what follows
        std::map<TPM2_CC, unsigned> counts;
        std::chrono::milliseconds busy{};
        unsigned commands = 0;
    };
    std::shared_ptr<State> state_;
};
