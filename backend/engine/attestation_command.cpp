// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/attestation_command.hpp"

#include <algorithm>

#include "backend/engine/vendor_command.hpp"
#include "shared-protocol/attest_command.hpp"
#include "shared-protocol/tpm_message.hpp"

namespace vtpm {
namespace {

// TCG Part 2, 6.6.3.
constexpr std::uint32_t kCommandCode = 0x143;
constexpr std::uint32_t kNonceSize = 0x1d5;    // TPM_RC_SIZE + P + 1
constexpr std::uint32_t kOffsetValue = 0x2c4;  // TPM_RC_VALUE + P + 2
constexpr std::uint32_t kRetry = 0x922;

}  // namespace

bool is_attest_command(ByteView command) {
    return command.size() >= TPM_MESSAGE_HEADER_SIZE && tpm_code(command) == kAttestCommand;
}

ByteView AttestationCommand::answer(ByteView command, ManagerChannel &channel) {
    const ByteView parameters = command.subspan(TPM_MESSAGE_HEADER_SIZE);
    if (big_endian(command.first(2)) != kTpmNoSessions) return fail(kAuthContext);
    if (tpm_size(command) != command.size() || parameters.size() < 6) return fail(kCommandSize);
    const std::size_t size = big_endian(parameters.first(2));
    if (size < kMinAttestNonce || size > kMaxAttestNonce) return fail(kNonceSize);
    if (parameters.size() != 2 + size + 4) return fail(kCommandSize);
    const ByteView nonce = parameters.subspan(2, size);
    const std::size_t offset = big_endian(parameters.last(4));

    if (offset == 0)
        if (const std::uint32_t code = fetch(nonce, channel); code != kSuccess) return fail(code);
    if (!std::ranges::equal(nonce, nonce_) || offset >= attestation_.size()) return fail(kOffsetValue);
    const ByteView part = ByteView(attestation_).subspan(offset, std::min(kVendorPart, attestation_.size() - offset));
    const BigEndian given = BigEndian().number(attestation_.size(), 4).sized(part);
    return response_ = tpm_message(kTpmNoSessions, kSuccess, given.bytes());
}

// One that was fetched is not asked for again: a reader may begin anew.
std::uint32_t AttestationCommand::fetch(ByteView nonce, ManagerChannel &channel) {
    if (!attestation_.empty() && std::ranges::equal(nonce, nonce_)) return kSuccess;
    auto given = channel.attest(nonce);
    if (!given) return given.error().code == ErrorCode::kUnavailable ? kRetry : kCommandCode;
    nonce_.assign(nonce.begin(), nonce.end());
    attestation_ = std::move(*given);
    return kSuccess;
}

ByteView AttestationCommand::fail(std::uint32_t code) { return response_ = tpm_message(kTpmNoSessions, code); }

}  // namespace vtpm
