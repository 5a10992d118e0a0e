// SPDX-License-Identifier: Apache-2.0
#include "manager/hardware_tpm/tpm_error.hpp"

#include <tss2/tss2_rc.h>
#include <tss2/tss2_tpm2_types.h>

#include <chrono>
#include <thread>

namespace vtpm {
namespace {

constexpr int kAttempts = 6;  // 20 + 40 + ... + 640 ms
constexpr std::chrono::milliseconds kFirstWait(20);

// TCG Part 2, 6.6.2: format-one codes have bit 7 set and carry 6 bits of error beside numbers of what it concerns.
constexpr TSS2_RC kFormatOneError = TPM2_RC_FMT1 | 0x3f;

bool from_tpm(TSS2_RC rc) {
    const TSS2_RC layer = rc & TSS2_RC_LAYER_MASK;
    return layer == TSS2_TPM_RC_LAYER || layer == TSS2_RESMGR_TPM_RC_LAYER;
}

TpmAdvice advice_of_tpm(TSS2_RC code) {
    switch (code) {
        case TPM2_RC_RETRY:
        case TPM2_RC_YIELDED:
        case TPM2_RC_TESTING:
        case TPM2_RC_NV_RATE:
            return TpmAdvice::kRetry;
        case TPM2_RC_INITIALIZE:  // nobody has started it yet
        case TPM2_RC_NV_UNAVAILABLE:
        case TPM2_RC_REBOOT:
            return TpmAdvice::kLater;
        case TPM2_RC_AUTH_FAIL:
        case TPM2_RC_BAD_AUTH:
        case TPM2_RC_POLICY_FAIL:
        case TPM2_RC_POLICY:
        case TPM2_RC_PCR_CHANGED:
        case TPM2_RC_INTEGRITY:  // sealed by another TPM, or changed
        case TPM2_RC_LOCKOUT:
        case TPM2_RC_HIERARCHY:
        case TPM2_RC_DISABLED:
            return TpmAdvice::kReject;
        default:
            return TpmAdvice::kFatal;
    }
}

}  // namespace

TSS2_RC plain_code(TSS2_RC rc) {
    const TSS2_RC code = rc & ~TSS2_RC_LAYER_MASK;
    return from_tpm(rc) && (code & TPM2_RC_FMT1) != 0 ? code & kFormatOneError : code;
}

TpmAdvice advice(TSS2_RC rc) {
    if (from_tpm(rc)) return advice_of_tpm(plain_code(rc));
    switch (rc & ~TSS2_RC_LAYER_MASK) {  // the same base numbers in every layer of the TSS
        case TSS2_BASE_RC_IO_ERROR:
        case TSS2_BASE_RC_NO_CONNECTION:
        case TSS2_BASE_RC_NOT_PERMITTED:
        case TSS2_BASE_RC_TRY_AGAIN:
            return TpmAdvice::kLater;
        default:
            return TpmAdvice::kFatal;
    }
}

tl::unexpected<Error> tpm_failure(TSS2_RC rc, std::string_view what) {
    const TpmAdvice what_to_do = advice(rc);
    ErrorCode code = ErrorCode::kSystem;
    if (what_to_do == TpmAdvice::kReject) code = ErrorCode::kRefused;
    if (what_to_do == TpmAdvice::kRetry || what_to_do == TpmAdvice::kLater) code = ErrorCode::kUnavailable;
    return fail(code, "hardware TPM: {}: {} ({:#x})", what, Tss2_RC_Decode(rc), rc);
}

bool wait_before_retry(int attempt) {
    if (attempt >= kAttempts) return false;
    std::this_thread::sleep_for(kFirstWait * (1 << attempt));
    return true;
}

}  // namespace vtpm
