// SPDX-License-Identifier: Apache-2.0
// The one place that says what a TSS2_RC means for us.
#pragma once

#include <tss2/tss2_common.h>

#include <concepts>
#include <string_view>

#include "base/result.hpp"

namespace vtpm {

enum class TpmAdvice {
    kRetry,   // the TPM is busy: the same command again, soon
    kLater,   // it is away or not started: try again from the start, later
    kReject,  // it said no: key, policy or authorization is not what it must be
    kFatal,   // a fault of ours or of the TPM
};

TpmAdvice advice(TSS2_RC rc);

// The response code without layer, parameter, session and handle numbers: TPM2_RC_BAD_AUTH and so on.
TSS2_RC plain_code(TSS2_RC rc);

// kLater: kUnavailable; kReject: kRefused; kFatal: kSystem. With the text of tss2-rc.
[[nodiscard]] tl::unexpected<Error> tpm_failure(TSS2_RC rc, std::string_view what);

// Waits a moment; false when `attempt` was the last one.
bool wait_before_retry(int attempt);

// Runs one ESAPI call, again while the TPM is busy, within about a second.
template <std::invocable Call>
TSS2_RC with_retry(Call call) {
    for (int attempt = 0;; ++attempt) {
        const TSS2_RC rc = call();
        if (rc == TSS2_RC_SUCCESS || advice(rc) != TpmAdvice::kRetry || !wait_before_retry(attempt)) return rc;
    }
}

template <std::invocable Call>
Result<> checked(std::string_view what, Call call) {
    const TSS2_RC rc = with_retry(call);
    if (rc != TSS2_RC_SUCCESS) return tpm_failure(rc, what);
    return {};
}

}  // namespace vtpm
