// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/attestation_command.hpp"

#include <algorithm>

#include "shared-protocol/tpmif.h"

namespace vtpm {
namespace {

constexpr std::uint16_t kNoSessions = 0x8001;
constexpr std::size_t kPart = 2048;  // with its header less than any driver's buffer
constexpr std::size_t kMinNonce = 8;
constexpr std::size_t kMaxNonce = 64;

// TCG Part 2, 6.6.3.
constexpr std::uint32_t kSuccess = 0;
constexpr std::uint32_t kCommandSize = 0x142;
constexpr std::uint32_t kCommandCode = 0x143;
constexpr std::uint32_t kAuthContext = 0x145;
constexpr std::uint32_t kNonceSize = 0x1d5;    // TPM_RC_SIZE + P + 1
constexpr std::uint32_t kOffsetValue = 0x2c4;  // TPM_RC_VALUE + P + 2
constexpr std::uint32_t kRetry = 0x922;

std::uint32_t big_endian(ByteView bytes) {
    std::uint32_t value = 0;
    for (const std::uint8_t byte : bytes) value = value << 8 | byte;
    return value;
}

void put(Bytes &out, std::uint32_t value, int size) {
    for (int shift = 8 * (size - 1); shift >= 0; shift -= 8) out.push_back(static_cast<std::uint8_t>(value >> shift));
}

void put_header(Bytes &out, std::size_t size, std::uint32_t code) {
    out.clear();
    put(out, kNoSessions, 2);
    put(out, static_cast<std::uint32_t>(size), 4);
    put(out, code, 4);
}

}  // namespace

bool is_attest_command(ByteView command) {
    return command.size() >= TPM_MESSAGE_HEADER_SIZE && big_endian(command.subspan(6, 4)) == kAttestCommand;
}

ByteView AttestationCommand::answer(ByteView command, StateChannel &channel) {
    const ByteView parameters = command.subspan(TPM_MESSAGE_HEADER_SIZE);
    if (big_endian(command.first(2)) != kNoSessions) return fail(kAuthContext);
    if (big_endian(command.subspan(2, 4)) != command.size() || parameters.size() < 6) return fail(kCommandSize);
    const std::size_t size = big_endian(parameters.first(2));
    if (size < kMinNonce || size > kMaxNonce) return fail(kNonceSize);
    if (parameters.size() != 2 + size + 4) return fail(kCommandSize);
    const ByteView nonce = parameters.subspan(2, size);
    const std::size_t offset = big_endian(parameters.last(4));

    if (offset == 0)
        if (const std::uint32_t code = fetch(nonce, channel); code != kSuccess) return fail(code);
    if (!std::ranges::equal(nonce, nonce_) || offset >= attestation_.size()) return fail(kOffsetValue);
    const ByteView part = ByteView(attestation_).subspan(offset, std::min(kPart, attestation_.size() - offset));
    put_header(response_, TPM_MESSAGE_HEADER_SIZE + 4 + 2 + part.size(), kSuccess);
    put(response_, static_cast<std::uint32_t>(attestation_.size()), 4);
    put(response_, static_cast<std::uint32_t>(part.size()), 2);
    response_.insert(response_.end(), part.begin(), part.end());
    return response_;
}

// One that was fetched is not asked for again: a reader may begin anew.
std::uint32_t AttestationCommand::fetch(ByteView nonce, StateChannel &channel) {
    if (!attestation_.empty() && std::ranges::equal(nonce, nonce_)) return kSuccess;
    auto given = channel.attest(nonce);
    if (!given) return given.error().code == ErrorCode::kUnavailable ? kRetry : kCommandCode;
    nonce_.assign(nonce.begin(), nonce.end());
    attestation_ = std::move(*given);
    return kSuccess;
}

ByteView AttestationCommand::fail(std::uint32_t code) {
    put_header(response_, TPM_MESSAGE_HEADER_SIZE, code);
    return response_;
}

}  // namespace vtpm
