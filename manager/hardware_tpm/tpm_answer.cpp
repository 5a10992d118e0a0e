// SPDX-License-Identifier: Apache-2.0
#include "manager/hardware_tpm/tpm_answer.hpp"

#include <tss2/tss2_tpm2_types.h>

namespace vtpm {
namespace {

// TCG Part 2, 6.6.2: format-one codes have bit 7 set and carry 6 bits of error beside numbers of what it concerns.
constexpr TSS2_RC kFormatOneError = TPM2_RC_FMT1 | 0x3f;
// A resource manager's own errors are the TSS' base numbers, or response codes that it gives in the TPM's place.
constexpr TSS2_RC kLeastResponseCode = TPM2_RC_FMT1;

bool is_response_code(TSS2_RC rc) {
    const TSS2_RC layer = rc & TSS2_RC_LAYER_MASK;
    const TSS2_RC code = rc & ~TSS2_RC_LAYER_MASK;
    return layer == TSS2_TPM_RC_LAYER || layer == TSS2_RESMGR_TPM_RC_LAYER ||
           (layer == TSS2_RESMGR_RC_LAYER && code >= kLeastResponseCode);
}

TpmAnswer answer_of_tpm(TSS2_RC code) {
    switch (code) {
        case TPM2_RC_SUCCESS:
            return TpmAnswer::kDone;
        case TPM2_RC_RETRY:
        case TPM2_RC_YIELDED:
        case TPM2_RC_CANCELED:
        case TPM2_RC_TESTING:
        case TPM2_RC_NV_RATE:
            return TpmAnswer::kBusy;
        case TPM2_RC_PCR_CHANGED:  // any PCR, since the session's TPM2_PolicyPCR
        case TPM2_RC_CONTEXT_GAP:  // a session of the resource manager's is too old
        case TPM2_RC_TOO_MANY_CONTEXTS:
        case TPM2_RC_OBJECT_MEMORY:  // others use it, or we: what we hold goes first
        case TPM2_RC_SESSION_MEMORY:
        case TPM2_RC_MEMORY:
        case TPM2_RC_SESSION_HANDLES:
        case TPM2_RC_OBJECT_HANDLES:
        case TPM2_RC_REFERENCE_H0:  // it was reset, or its resource manager lost what we had
        case TPM2_RC_REFERENCE_H1:
        case TPM2_RC_REFERENCE_H2:
        case TPM2_RC_REFERENCE_H3:
        case TPM2_RC_REFERENCE_H4:
        case TPM2_RC_REFERENCE_H5:
        case TPM2_RC_REFERENCE_H6:
        case TPM2_RC_REFERENCE_S0:
        case TPM2_RC_REFERENCE_S1:
        case TPM2_RC_REFERENCE_S2:
        case TPM2_RC_REFERENCE_S3:
        case TPM2_RC_REFERENCE_S4:
        case TPM2_RC_REFERENCE_S5:
        case TPM2_RC_REFERENCE_S6:
            return TpmAnswer::kVoid;
        case TPM2_RC_INITIALIZE:  // nobody has started it yet
        case TPM2_RC_REBOOT:
        case TPM2_RC_UPGRADE:
        case TPM2_RC_NEEDS_TEST:
        case TPM2_RC_NV_UNAVAILABLE:
        case TPM2_RC_LOCKOUT:
            return TpmAnswer::kNotNow;
        case TPM2_RC_AUTH_FAIL:
        case TPM2_RC_BAD_AUTH:
        case TPM2_RC_NV_AUTHORIZATION:
            return TpmAnswer::kUnauthorized;
        case TPM2_RC_POLICY_FAIL:
        case TPM2_RC_POLICY:
        case TPM2_RC_POLICY_CC:
        case TPM2_RC_EXPIRED:
            return TpmAnswer::kPolicyFails;
        case TPM2_RC_INTEGRITY:
        case TPM2_RC_BINDING:
            return TpmAnswer::kForeign;
        case TPM2_RC_HIERARCHY:
        case TPM2_RC_DISABLED:
            return TpmAnswer::kClosed;
        case TPM2_RC_NV_SPACE:
            return TpmAnswer::kNoRoom;
        case TPM2_RC_HANDLE:
            return TpmAnswer::kAbsent;
        case TPM2_RC_NV_UNINITIALIZED:
            return TpmAnswer::kUnwritten;
        default:
            return TpmAnswer::kFault;
    }
}

// The same base numbers in every layer of the TSS.
TpmAnswer answer_of_tss(TSS2_RC code) {
    switch (code) {
        case TSS2_BASE_RC_IO_ERROR:  // another connection may do better; if there is none, that is the answer
        case TSS2_BASE_RC_NO_CONNECTION:
        case TSS2_BASE_RC_TRY_AGAIN:
        case TSS2_BASE_RC_BAD_SEQUENCE:  // what ESAPI says of a connection that broke before
        case TSS2_BASE_RC_MALFORMED_RESPONSE:
        case TSS2_BASE_RC_INSUFFICIENT_RESPONSE:
            return TpmAnswer::kVoid;
        case TSS2_BASE_RC_NOT_PERMITTED:
            return TpmAnswer::kNotNow;
        default:
            return TpmAnswer::kFault;
    }
}

}  // namespace

TSS2_RC plain_code(TSS2_RC rc) {
    const TSS2_RC code = rc & ~TSS2_RC_LAYER_MASK;
    return is_response_code(rc) && (code & TPM2_RC_FMT1) != 0 ? code & kFormatOneError : code;
}

TpmAnswer answer(TSS2_RC rc) {
    return is_response_code(rc) ? answer_of_tpm(plain_code(rc)) : answer_of_tss(rc & ~TSS2_RC_LAYER_MASK);
}

}  // namespace vtpm
