// SPDX-License-Identifier: Apache-2.0
#include "manager/hardware_tpm/tpm_error.hpp"

#include <tss2/tss2_rc.h>
#include <tss2/tss2_tpm2_types.h>

#include <algorithm>
#include <thread>

namespace vtpm {
namespace {

constexpr std::chrono::milliseconds kLongestPause(640);

ErrorCode error_code(TpmAnswer answer) {
    switch (answer) {
        case TpmAnswer::kBusy:
        case TpmAnswer::kVoid:
        case TpmAnswer::kNotNow:
            return ErrorCode::kUnavailable;
        case TpmAnswer::kUnauthorized:
        case TpmAnswer::kPolicyFails:
        case TpmAnswer::kForeign:
        case TpmAnswer::kClosed:
        case TpmAnswer::kNoRoom:
            return ErrorCode::kRefused;
        case TpmAnswer::kAbsent:
        case TpmAnswer::kUnwritten:
            return ErrorCode::kNotFound;
        case TpmAnswer::kDone:
        case TpmAnswer::kFault:
            break;
    }
    return ErrorCode::kSystem;
}

std::string_view remedy(TSS2_RC rc) {
    if (plain_code(rc) != TPM2_RC_LOCKOUT) return {};
    return ": somebody gave it wrong passwords; it ends by itself (TPM2_PT_LOCKOUT_INTERVAL seconds for each: "
           "tpm2_getcap properties-variable), or by tpm2_dictionarylockout --clear-lockout";
}

}  // namespace

tl::unexpected<Error> tpm_failure(TSS2_RC rc, std::string_view what) {
    const TpmAnswer meaning = answer(rc);
    return tl::make_unexpected(Error{
        error_code(meaning), fmt::format("hardware TPM: {}: {} ({:#x}){}", what, Tss2_RC_Decode(rc), rc, remedy(rc)),
        meaning == TpmAnswer::kVoid});
}

bool Patience::wait() {
    if (Clock::now() + pause_ > end_) return false;
    std::this_thread::sleep_for(pause_);
    pause_ = std::min(2 * pause_, kLongestPause);
    return true;
}

}  // namespace vtpm
