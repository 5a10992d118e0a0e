// SPDX-License-Identifier: Apache-2.0
// How the hardware TPM is asked: again while an answer passes (tpm_answer.hpp), and what is said when it stays.
//
// Who waits here holds no turn (manager/groups/worker.hpp): every question to the TPM is a call of a Sealer, which gave
// it away.
#pragma once

#include <chrono>
#include <concepts>
#include <string_view>

#include "base/result.hpp"
#include "manager/hardware_tpm/tpm_answer.hpp"
#include "shared-protocol/time_limits.hpp"

namespace vtpm {

// kVoid, kNotNow, and kBusy that stayed: kUnavailable; kAbsent and kUnwritten: kNotFound; kFault: kSystem; the others:
// kRefused. With the text of tss2-rc.
[[nodiscard]] tl::unexpected<Error> tpm_failure(TSS2_RC rc, std::string_view what);

// For how long to go on asking: with pauses that grow from 20 to 640 ms, and no new attempt after `limit`.
class Patience {
public:
    explicit Patience(std::chrono::milliseconds limit) : end_(Clock::now() + limit) {}
    // Waits a moment. False: it is over.
    bool wait();

private:
    using Clock = std::chrono::steady_clock;
    Clock::time_point end_;
    std::chrono::milliseconds pause_{20};
};

// Runs one ESAPI call, again while the TPM is busy.
template <std::invocable Call>
TSS2_RC with_retry(Call call) {
    for (Patience patience(limits::kTpmCommand);;) {
        const TSS2_RC rc = call();
        if (answer(rc) != TpmAnswer::kBusy || !patience.wait()) return rc;
    }
}

template <std::invocable Call>
Result<> checked(std::string_view what, Call call) {
    const TSS2_RC rc = with_retry(call);
    if (rc != TSS2_RC_SUCCESS) return tpm_failure(rc, what);
    return {};
}

// Runs a whole operation, again from its beginning while what it began becomes void. Each time it must begin without
// what it had: no session, no loaded object. Whatever of it the TPM did before must do no harm if it is done again.
template <std::invocable Operation>
auto from_the_beginning(Operation operation) {
    for (Patience patience(limits::kTpmOperation);;) {
        auto result = operation();
        if (result || !result.error().passing || !patience.wait()) return result;
    }
}

}  // namespace vtpm
