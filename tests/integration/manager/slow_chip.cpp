// SPDX-License-Identifier: Apache-2.0
#include "slow_chip.hpp"

#include <algorithm>
#include <thread>

#include "shared-protocol/tpm_message.hpp"

using namespace vtpm;

namespace {

using std::chrono::milliseconds;

constexpr unsigned kTesting = 3;
constexpr unsigned kRetryEvery = 100;

std::uint32_t handle_of(ByteView command) {
    return command.size() < TPM_MESSAGE_HEADER_SIZE + 4
               ? TPM2_RH_NULL
               : static_cast<std::uint32_t>(big_endian(command.subspan(TPM_MESSAGE_HEADER_SIZE, 4)));
}

// The public area's type follows the sensitive one's size and content, and the authorizations': an RSA key's template
// is in the command, as this is, wherever that stands.
bool makes_rsa_key(ByteView command) {
    const std::uint8_t rsa[] = {0x00, 0x01, 0x00, 0x0b};  // TPM_ALG_RSA, TPM_ALG_SHA256
    return std::search(command.begin() + TPM_MESSAGE_HEADER_SIZE, command.end(), std::begin(rsa), std::end(rsa)) !=
           command.end();
}

// Between what discrete chips and firmware TPMs take, at their slower end.
milliseconds time_of(TPM2_CC code, ByteView command) {
    switch (code) {
        case TPM2_CC_CreatePrimary:
            return milliseconds(makes_rsa_key(command) ? 8000 : 150);
        case TPM2_CC_Create:
            return milliseconds(200);
        // A salt is decrypted.
        case TPM2_CC_StartAuthSession:
            return milliseconds(handle_of(command) == TPM2_RH_NULL ? 10 : 120);
        case TPM2_CC_Sign:
        case TPM2_CC_Quote:
        case TPM2_CC_Certify:
        case TPM2_CC_ActivateCredential:
        case TPM2_CC_VerifySignature:
            return milliseconds(150);
        case TPM2_CC_Load:
        case TPM2_CC_LoadExternal:
        case TPM2_CC_Unseal:
        case TPM2_CC_NV_DefineSpace:
        case TPM2_CC_NV_UndefineSpace:
        case TPM2_CC_NV_Write:
        case TPM2_CC_NV_Increment:
            return milliseconds(30);
        case TPM2_CC_ContextLoad:
        case TPM2_CC_ContextSave:
        case TPM2_CC_GetRandom:
            return milliseconds(10);
        default:
            return milliseconds(5);
    }
}

}  // namespace

TpmProxy::Fates SlowChip::fates() const {
    return [state = state_](TPM2_CC code, ByteView command) {
        TpmProxy::Fate fate;
        const auto time = std::chrono::duration_cast<milliseconds>(time_of(code, command) * state->pace);
        const std::lock_guard lock(state->mutex);
        ++state->counts[code];
        const unsigned number = ++state->commands;
        if (number <= kTesting)
            fate.answer = TPM2_RC_TESTING;
        else if (number % kRetryEvery == 0)
            fate.answer = TPM2_RC_RETRY;
        else
            state->busy += time;
        if (!fate.answer) std::this_thread::sleep_for(time);
        return fate;
    };
}

unsigned SlowChip::take_count(TPM2_CC command) {
    const std::lock_guard lock(state_->mutex);
    return std::exchange(state_->counts[command], 0);
}

milliseconds SlowChip::busy() const {
    const std::lock_guard lock(state_->mutex);
    return state_->busy;
}
