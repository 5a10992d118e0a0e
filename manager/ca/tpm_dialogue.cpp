// SPDX-License-Identifier: Apache-2.0
#include "manager/ca/tpm_dialogue.hpp"

#include <tss2/tss2_tpm2_types.h>

#include <algorithm>
#include <utility>

#include "shared-protocol/tpm_message.hpp"

namespace vtpm {
namespace {

constexpr std::size_t kNvChunk = 512;  // less than any TPM's MAX_NV_BUFFER_SIZE

// Read by everyone, written by the platform, which the guest never is (2.2.2.3 of the profile).
constexpr TPMA_NV kCertificate = TPMA_NV_PPWRITE | TPMA_NV_WRITEDEFINE | TPMA_NV_PPREAD | TPMA_NV_OWNERREAD |
                                 TPMA_NV_AUTHREAD | TPMA_NV_NO_DA | TPMA_NV_PLATFORMCREATE;

// TPM2B_NV_PUBLIC.
Bytes nv_public(std::uint32_t index, std::size_t size) {
    BigEndian area;
    area.u32(index).u16(TPM2_ALG_SHA256).u32(kCertificate).u16(0).u16(static_cast<std::uint16_t>(size));
    return BigEndian().sized(area.bytes()).bytes();
}

}  // namespace

Bytes plain_command(std::uint32_t code, const BigEndian &parameters) {
    return tpm_message(kTpmNoSessions, code, parameters.bytes());
}

Bytes authorized_command(std::uint32_t code, std::initializer_list<std::uint32_t> handles,
                         const BigEndian &parameters) {
    BigEndian message;
    for (const std::uint32_t handle : handles) message.u32(handle);
    message.raw(empty_password()).raw(parameters.bytes());
    return tpm_message(kTpmSessions, code, message.bytes());
}

TpmDialogue::TpmDialogue(std::string name) : name_(std::move(name)) {
    then("TPM2_Startup", plain_command(TPM2_CC_Startup, BigEndian().u16(TPM2_SU_CLEAR)));
}

tl::unexpected<Error> TpmDialogue::malformed(const char *what) const {
    return fail(ErrorCode::kRefused, "{} answers {} with something malformed", name_, what);
}

void TpmDialogue::then(const char *what, Bytes command, Take take, OnFailure on_failure) {
    steps_.push_back({what, std::move(command), std::move(take), on_failure});
}

void TpmDialogue::now(const char *what, Bytes command, Take take) {
    steps_.push_front({what, std::move(command), std::move(take), OnFailure::kRefuse});
}

void TpmDialogue::shut_down() {
    then("TPM2_Shutdown", plain_command(TPM2_CC_Shutdown, BigEndian().u16(TPM2_SU_CLEAR)));
}

Result<Bytes> TpmDialogue::next(ByteView response) {
    if (asked_) {
        const Step step = std::move(steps_.front());
        steps_.pop_front();
        asked_ = false;
        if (response.size() < TPM_MESSAGE_HEADER_SIZE) return malformed(step.what);
        const std::uint32_t code = tpm_code(response);
        if (code != TPM2_RC_SUCCESS && step.on_failure == OnFailure::kRefuse)
            return fail(ErrorCode::kRefused, "{} fails {} with {:#x}", name_, step.what, code);
        if (code == TPM2_RC_SUCCESS && step.take) VTPM_TRY(step.take(response.subspan(TPM_MESSAGE_HEADER_SIZE)));
    }
    done_ = steps_.empty();
    if (done_) return Bytes();
    asked_ = true;
    return steps_.front().command;
}

void TpmDialogue::write_certificates(const std::vector<CertifiedKey> &keys, const std::vector<EkTemplate> &kinds,
                                     ByteView chain) {
    for (std::size_t i = 0; i < keys.size(); ++i) write(ek_certificate_index(kinds.at(i)), keys[i].certificate);
    for (std::size_t at = 0; at < chain.size(); at += kMaxIndex)
        write(static_cast<std::uint32_t>(kEkCertificateChainIndex + at / kMaxIndex),
              chain.subspan(at, std::min(kMaxIndex, chain.size() - at)));
    endorsement_ = keys;
}

void TpmDialogue::write(std::uint32_t index, ByteView content) {
    then("TPM2_NV_DefineSpace", authorized_command(TPM2_CC_NV_DefineSpace, {TPM2_RH_PLATFORM},
                                                   BigEndian().u16(0).raw(nv_public(index, content.size()))));
    for (std::size_t at = 0; at < content.size(); at += kNvChunk) {
        const ByteView chunk = content.subspan(at, std::min(kNvChunk, content.size() - at));
        then("TPM2_NV_Write", authorized_command(TPM2_CC_NV_Write, {TPM2_RH_PLATFORM, index},
                                                 BigEndian().sized(chunk).u16(static_cast<std::uint16_t>(at))));
    }
    then("TPM2_NV_WriteLock", authorized_command(TPM2_CC_NV_WriteLock, {TPM2_RH_PLATFORM, index}, {}));
}

}  // namespace vtpm
