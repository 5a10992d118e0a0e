// SPDX-License-Identifier: Apache-2.0
#include "manager/ca/manufacture.hpp"

#include <tss2/tss2_mu.h>

#include <algorithm>
#include <span>

#include "manager/tpm/public_area.hpp"
#include "shared-protocol/tpm_message.hpp"

namespace vtpm {
namespace {

constexpr EkTemplate kKeys[] = {EkTemplate::kRsa2048, EkTemplate::kEccP256, EkTemplate::kEccP384};

}  // namespace

Manufacture::Manufacture(ByteView entropy, TpmProfile profile, Certify certify)
    : TpmDialogue("the new TPM"), profile_(std::move(profile)), certify_(std::move(certify)) {
    make_seeds(entropy);
    allocate_pcrs();
    if (!certify_) {
        shut_down();
        return;
    }
    then("TPM2_GetCapability",
         plain_command(TPM2_CC_GetCapability, BigEndian().u32(TPM2_CAP_TPM_PROPERTIES).u32(TPM2_PT_FIXED).u32(64)),
         [this](ByteView response) { return describe(response); });
    for (const EkTemplate kind : kKeys) create_key(kind);
}

// The seeds that it was born with come from its own entropy alone: these are made after ours was stirred in.
void Manufacture::make_seeds(ByteView entropy) {
    then("TPM2_StirRandom", plain_command(TPM2_CC_StirRandom, BigEndian().sized(entropy)));
    then("TPM2_ChangePPS", authorized_command(TPM2_CC_ChangePPS, {TPM2_RH_PLATFORM}, {}));
    then("TPM2_ChangeEPS", authorized_command(TPM2_CC_ChangeEPS, {TPM2_RH_PLATFORM}, {}));
    then("TPM2_Clear", authorized_command(TPM2_CC_Clear, {TPM2_RH_PLATFORM}, {}));  // the storage seed
}

// In force from the next power-on. After TPM2_Clear: that of libtpms writes back what is in force now.
void Manufacture::allocate_pcrs() {
    constexpr std::size_t kBeforeList = 5;  // moreData, capability
    // parameterSize, allocationSuccess, maxPCR, sizeNeeded, sizeAvailable.
    const auto allocated = [this](ByteView response) -> Result<> {
        if (response.size() != 4 + 1 + 4 + 4 + 4 + kPasswordAnswer) return malformed("TPM2_PCR_Allocate");
        if (response[4] != TPM2_YES) return fail(ErrorCode::kRefused, "the new TPM lacks room for its PCRs");
        return {};
    };
    then("TPM2_GetCapability", plain_command(TPM2_CC_GetCapability, BigEndian().u32(TPM2_CAP_PCRS).u32(0).u32(1)),
         [this, allocated](ByteView response) -> Result<> {
             if (response.size() < kBeforeList || big_endian(response.subspan(1, 4)) != TPM2_CAP_PCRS)
                 return malformed("TPM2_GetCapability");
             VTPM_ASSIGN(const Bytes list, profile_.pcr_banks.allocation(response.subspan(kBeforeList)));
             now("TPM2_PCR_Allocate",
                 authorized_command(TPM2_CC_PCR_Allocate, {TPM2_RH_PLATFORM}, BigEndian().raw(list)), allocated);
             return {};
         });
}

void Manufacture::create_key(EkTemplate kind) {
    BigEndian parameters;
    parameters.u16(4).u16(0).u16(0);    // TPM2B_SENSITIVE_CREATE: no authorization, no data
    parameters.raw(ek_template(kind));  // TPM2B_PUBLIC
    parameters.u16(0).u32(0);           // outsideInfo, creationPCR
    then("TPM2_CreatePrimary", authorized_command(TPM2_CC_CreatePrimary, {TPM2_RH_ENDORSEMENT}, parameters),
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
    now("TPM2_FlushContext", plain_command(TPM2_CC_FlushContext, BigEndian().u32(handle)));
    if (keys_.size() == std::size(kKeys)) return certify();
    return {};
}

Result<> Manufacture::certify() {
    VTPM_ASSIGN(const auto certificates, certify_(keys_, tpm_));
    std::vector<CertifiedKey> certified;
    std::vector<EkTemplate> kinds;
    for (std::size_t i = 0; i < certificates.endorsement.size(); ++i) {
        kinds.push_back(keys_.at(i).kind);
        certified.push_back({marshalled(TPM2B_PUBLIC{0, keys_[i].area}), certificates.endorsement[i]});
    }
    write_certificates(certified, kinds, certificates.chain);
    shut_down();
    return {};
}

}  // namespace vtpm
