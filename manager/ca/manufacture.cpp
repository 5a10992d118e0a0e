// SPDX-License-Identifier: Apache-2.0
#include "manager/ca/manufacture.hpp"

#include <tss2/tss2_mu.h>

#include <algorithm>
#include <span>

#include "manager/policy/public_area.hpp"
#include "shared-protocol/tpm_message.hpp"

namespace vtpm {
namespace {

constexpr EkTemplate kKeys[] = {EkTemplate::kRsa2048, EkTemplate::kEccP256, EkTemplate::kEccP384};
constexpr std::size_t kPasswordAnswer = 5;  // the session area of a response to empty_password(): no nonce, no HMAC
constexpr std::size_t kMaxIndex = 2048;     // the content of an NV index of libtpms
constexpr std::size_t kNvChunk = 512;       // less than any TPM's MAX_NV_BUFFER_SIZE

// Read by everyone, written by the platform, which the guest never is (2.2.2.3 of the profile).
constexpr TPMA_NV kCertificate = TPMA_NV_PPWRITE | TPMA_NV_WRITEDEFINE | TPMA_NV_PPREAD | TPMA_NV_OWNERREAD |
                                 TPMA_NV_AUTHREAD | TPMA_NV_NO_DA | TPMA_NV_PLATFORMCREATE;

Bytes plain(TPM2_CC code, const BigEndian &parameters) { return tpm_message(kTpmNoSessions, code, parameters.bytes()); }

// By the empty password of the first handle.
Bytes authorized(TPM2_CC code, std::initializer_list<TPM2_HANDLE> handles, const BigEndian &parameters) {
    BigEndian message;
    for (const TPM2_HANDLE handle : handles) message.u32(handle);
    message.raw(empty_password()).raw(parameters.bytes());
    return tpm_message(kTpmSessions, code, message.bytes());
}

// TPM2B_NV_PUBLIC.
Bytes nv_public(std::uint32_t index, std::size_t size) {
    BigEndian area;
    area.u32(index).u16(TPM2_ALG_SHA256).u32(kCertificate).u16(0).u16(static_cast<std::uint16_t>(size));
    return BigEndian().sized(area.bytes()).bytes();
}

tl::unexpected<Error> malformed(const char *what) {
    return fail(ErrorCode::kRefused, "the new TPM answers {} with something malformed", what);
}

}  // namespace

Manufacture::Manufacture(ByteView entropy, TpmProfile profile, Certify certify)
    : profile_(std::move(profile)), certify_(std::move(certify)) {
    then("TPM2_Startup", plain(TPM2_CC_Startup, BigEndian().u16(TPM2_SU_CLEAR)));
    make_seeds(entropy);
    allocate_pcrs();
    if (!certify_) {
        shut_down();
        return;
    }
    then("TPM2_GetCapability",
         plain(TPM2_CC_GetCapability, BigEndian().u32(TPM2_CAP_TPM_PROPERTIES).u32(TPM2_PT_FIXED).u32(64)),
         [this](ByteView response) { return describe(response); });
    for (const EkTemplate kind : kKeys) create_key(kind);
}

// The seeds that it was born with come from its own entropy alone: these are made after ours was stirred in.
void Manufacture::make_seeds(ByteView entropy) {
    then("TPM2_StirRandom", plain(TPM2_CC_StirRandom, BigEndian().sized(entropy)));
    then("TPM2_ChangePPS", authorized(TPM2_CC_ChangePPS, {TPM2_RH_PLATFORM}, {}));
    then("TPM2_ChangeEPS", authorized(TPM2_CC_ChangeEPS, {TPM2_RH_PLATFORM}, {}));
    then("TPM2_Clear", authorized(TPM2_CC_Clear, {TPM2_RH_PLATFORM}, {}));  // the storage seed
}

// In force from the next power-on. After TPM2_Clear: that of libtpms writes back what is in force now.
void Manufacture::allocate_pcrs() {
    constexpr std::size_t kBeforeList = 5;  // moreData, capability
    // parameterSize, allocationSuccess, maxPCR, sizeNeeded, sizeAvailable.
    const auto allocated = [](ByteView response) -> Result<> {
        if (response.size() != 4 + 1 + 4 + 4 + 4 + kPasswordAnswer) return malformed("TPM2_PCR_Allocate");
        if (response[4] != TPM2_YES) return fail(ErrorCode::kRefused, "the new TPM lacks room for its PCRs");
        return {};
    };
    then(
        "TPM2_GetCapability", plain(TPM2_CC_GetCapability, BigEndian().u32(TPM2_CAP_PCRS).u32(0).u32(1)),
        [this, allocated](ByteView response) -> Result<> {
            if (response.size() < kBeforeList || big_endian(response.subspan(1, 4)) != TPM2_CAP_PCRS)
                return malformed("TPM2_GetCapability");
            VTPM_ASSIGN(const Bytes list, profile_.pcr_banks.allocation(response.subspan(kBeforeList)));
            steps_.push_front({"TPM2_PCR_Allocate",
                               authorized(TPM2_CC_PCR_Allocate, {TPM2_RH_PLATFORM}, BigEndian().raw(list)), allocated});
            return {};
        });
}

void Manufacture::shut_down() { then("TPM2_Shutdown", plain(TPM2_CC_Shutdown, BigEndian().u16(TPM2_SU_CLEAR))); }

void Manufacture::then(const char *what, Bytes command, std::function<Result<>(ByteView)> take) {
    steps_.push_back({what, std::move(command), std::move(take)});
}

Result<Bytes> Manufacture::next(ByteView response) {
    if (asked_) {
        const Step step = std::move(steps_.front());
        steps_.pop_front();
        asked_ = false;
        if (response.size() < TPM_MESSAGE_HEADER_SIZE) return malformed(step.what);
        if (const std::uint32_t code = tpm_code(response); code != TPM2_RC_SUCCESS)
            return fail(ErrorCode::kRefused, "the new TPM fails {} with {:#x}", step.what, code);
        if (step.take) VTPM_TRY(step.take(response.subspan(TPM_MESSAGE_HEADER_SIZE)));
    }
    if (steps_.empty()) return Bytes();
    asked_ = true;
    return steps_.front().command;
}

void Manufacture::create_key(EkTemplate kind) {
    BigEndian parameters;
    parameters.u16(4).u16(0).u16(0);    // TPM2B_SENSITIVE_CREATE: no authorization, no data
    parameters.raw(ek_template(kind));  // TPM2B_PUBLIC
    parameters.u16(0).u32(0);           // outsideInfo, creationPCR
    then("TPM2_CreatePrimary", authorized(TPM2_CC_CreatePrimary, {TPM2_RH_ENDORSEMENT}, parameters),
         [this](ByteView response) { return take_key(response); });
}

// After the parameters that we ask for come others, which are none of ours.
Result<> Manufacture::describe(ByteView response) {
    TPMS_CAPABILITY_DATA data{};
    std::size_t consumed = 1;  // after moreData
    if (response.empty() ||
        Tss2_MU_TPMS_CAPABILITY_DATA_Unmarshal(response.data(), response.size(), &consumed, &data) != TSS2_RC_SUCCESS ||
        data.capability != TPM2_CAP_TPM_PROPERTIES)
        return malformed("TPM2_GetCapability");
    const auto &list = data.data.tpmProperties;
    for (const auto &[property, value] : std::span(list.tpmProperty, list.count)) {
        if (property == TPM2_PT_MANUFACTURER) tpm_.manufacturer = fmt::format("id:{:08X}", value);
        if (property == TPM2_PT_FIRMWARE_VERSION_1) tpm_.version = fmt::format("id:{:08X}", value);
        if (property == TPM2_PT_REVISION) tpm_.revision = value;
        if (property < TPM2_PT_VENDOR_STRING_1 || property > TPM2_PT_VENDOR_STRING_4) continue;
        for (int shift = 24; shift >= 0; shift -= 8)
            if (const auto c = static_cast<char>(value >> shift); c >= ' ' && c < 0x7f) tpm_.model += c;
    }
    return {};
}

// objectHandle, parameterSize, outPublic, ...
Result<> Manufacture::take_key(ByteView response) {
    constexpr std::size_t kPublic = 8;
    if (response.size() < kPublic + 2) return malformed("TPM2_CreatePrimary");
    const auto handle = static_cast<TPM2_HANDLE>(big_endian(response.first(4)));
    const std::size_t size = 2 + big_endian(response.subspan(kPublic, 2));
    if (response.size() < kPublic + size) return malformed("TPM2_CreatePrimary");
    VTPM_ASSIGN(EndorsementKey key, endorsement_key(response.subspan(kPublic, size)));
    keys_.push_back(std::move(key));
    steps_.push_front({"TPM2_FlushContext", plain(TPM2_CC_FlushContext, BigEndian().u32(handle)), nullptr});
    if (keys_.size() == std::size(kKeys)) return certify();
    return {};
}

Result<> Manufacture::certify() {
    VTPM_ASSIGN(const auto certificates, certify_(keys_, tpm_));
    for (std::size_t i = 0; i < certificates.endorsement.size(); ++i) {
        write(ek_certificate_index(keys_.at(i).kind), certificates.endorsement[i]);
        endorsement_.push_back({marshalled(TPM2B_PUBLIC{0, keys_[i].area}), certificates.endorsement[i]});
    }
    const ByteView chain = certificates.chain;
    for (std::size_t at = 0; at < chain.size(); at += kMaxIndex)
        write(static_cast<std::uint32_t>(kEkCertificateChainIndex + at / kMaxIndex),
              chain.subspan(at, std::min(kMaxIndex, chain.size() - at)));
    shut_down();
    return {};
}

void Manufacture::write(std::uint32_t index, ByteView content) {
    then("TPM2_NV_DefineSpace", authorized(TPM2_CC_NV_DefineSpace, {TPM2_RH_PLATFORM},
                                           BigEndian().u16(0).raw(nv_public(index, content.size()))));
    for (std::size_t at = 0; at < content.size(); at += kNvChunk) {
        const ByteView chunk = content.subspan(at, std::min(kNvChunk, content.size() - at));
        then("TPM2_NV_Write", authorized(TPM2_CC_NV_Write, {TPM2_RH_PLATFORM, index},
                                         BigEndian().sized(chunk).u16(static_cast<std::uint16_t>(at))));
    }
    then("TPM2_NV_WriteLock", authorized(TPM2_CC_NV_WriteLock, {TPM2_RH_PLATFORM, index}, {}));
}

}  // namespace vtpm
