// SPDX-License-Identifier: Apache-2.0
#include "manager/hardware_tpm/hardware_tpm.hpp"

#include <algorithm>
#include <span>

#include "manager/hardware_tpm/tpm_error.hpp"

namespace vtpm {
namespace {

std::string hex(ByteView bytes) { return fmt::format("{:02x}", fmt::join(bytes, "")); }

// Four characters in one property (TCG Part 2, 6.13: TPM_PT_MANUFACTURER, TPM_PT_VENDOR_STRING_*).
void append_characters(std::string &text, std::uint32_t property) {
    for (int shift = 24; shift >= 0; shift -= 8) {
        const auto character = static_cast<char>(property >> shift);
        if (character > ' ' && character < 0x7f) text += character;
    }
}

Result<std::string> describe(ESYS_CONTEXT *context) {
    VTPM_ASSIGN(const auto data, capability(context, TPM2_CAP_TPM_PROPERTIES, TPM2_PT_MANUFACTURER, 8));
    const auto &list = data->data.tpmProperties;
    std::string maker;
    std::string model;
    std::uint32_t firmware[2] = {};
    for (const auto &[property, value] : std::span(list.tpmProperty, list.count)) {
        if (property == TPM2_PT_MANUFACTURER) append_characters(maker, value);
        if (property >= TPM2_PT_VENDOR_STRING_1 && property <= TPM2_PT_VENDOR_STRING_4) append_characters(model, value);
        if (property == TPM2_PT_FIRMWARE_VERSION_1) firmware[0] = value;
        if (property == TPM2_PT_FIRMWARE_VERSION_2) firmware[1] = value;
    }
    return fmt::format("{} {}, firmware {}.{}.{}.{}", maker, model, firmware[0] >> 16, firmware[0] & 0xffff,
                       firmware[1] >> 16, firmware[1] & 0xffff);
}

}  // namespace

Result<EsysPtr<TPMS_CAPABILITY_DATA>> capability(ESYS_CONTEXT *context, TPM2_CAP what, std::uint32_t first,
                                                 std::uint32_t count, ESYS_TR session) {
    EsysPtr<TPMS_CAPABILITY_DATA> data;
    VTPM_TRY(checked("TPM2_GetCapability", [&] {
        return Esys_GetCapability(context, session, ESYS_TR_NONE, ESYS_TR_NONE, what, first, count, nullptr, out(data));
    }));
    return data;
}

Result<HardwareTpm> HardwareTpm::open(const std::string &tcti, ByteView pinned, const HierarchyPasswords &passwords) {
    SavedPrimary none;
    return open(tcti, pinned, passwords, none);
}

Result<HardwareTpm> HardwareTpm::open(const std::string &tcti, ByteView pinned, const HierarchyPasswords &passwords,
                                      SavedPrimary &saved) {
    VTPM_ASSIGN(Esys esys, connect_tpm(tcti));
    VTPM_TRY(set_passwords(esys.get(), passwords));
    VTPM_ASSIGN(std::string description, describe(esys.get()));
    VTPM_ASSIGN(StoragePrimary primary, storage_primary(esys.get(), saved));
    if (!pinned.empty() && !std::ranges::equal(pinned, primary.name))
        return fail(ErrorCode::kRefused,
                    "this is not the hardware TPM that sealed this store ({}): its storage key is {}, the store's {}",
                    description, hex(primary.name), hex(pinned));
    return HardwareTpm(std::move(esys), std::move(primary), std::move(description));
}

Result<ESYS_TR> HardwareTpm::command_session() {
    if (!command_session_) {
        VTPM_ASSIGN(EsysHandle session, start_session(esys_.get(), primary_.handle.get(), SessionUse::kCommand));
        command_session_.emplace(std::move(session));
    }
    return command_session_->get();
}

Result<SecretBytes> HardwareTpm::random(std::size_t size) {
    VTPM_ASSIGN(const ESYS_TR session, command_session());
    // The command has nothing to encrypt.
    VTPM_TRY(set_attributes(esys_.get(), session, SessionUse::kAnswer));
    EsysPtr<TPM2B_DIGEST> bytes;
    const Result<> answered = checked("TPM2_GetRandom", [&] {
        return Esys_GetRandom(esys_.get(), session, ESYS_TR_NONE, ESYS_TR_NONE, static_cast<UINT16>(size), out(bytes));
    });
    VTPM_TRY(set_attributes(esys_.get(), session, SessionUse::kCommand));
    VTPM_TRY(answered);
    if (bytes->size != size) return fail(ErrorCode::kSystem, "the hardware TPM gives {} random bytes", bytes->size);
    return SecretBytes(ByteView(bytes->buffer, bytes->size));
}

// The TPM ignores PCRs of banks that it has not allocated: a policy over them would ask for nothing.
Result<> HardwareTpm::require_allocated(const PcrSelection &pcrs, const EsysHandle &audit) {
    VTPM_ASSIGN(const auto data, capability(esys_.get(), TPM2_CAP_PCRS, 0, 1, audit.get()));
    if (pcrs.within(data->data.assignedPCR)) return {};
    return fail(ErrorCode::kRefused, "hardware TPM: it has not all of the PCRs '{}': choose another bank",
                pcrs.to_string());
}

// What they are decides what a key is sealed to, and what a guest sees of its host: the TPM says it, and nobody
// between. One at a time: TPM2_PCR_Read returns no more than fits into its list.
Result<PcrValues> HardwareTpm::read(const PcrSelection &pcrs) {
    PcrValues values;
    if (pcrs.empty()) return values;
    VTPM_ASSIGN(const EsysHandle audit, audit_session());
    VTPM_TRY(require_allocated(pcrs, audit));
    for (const unsigned pcr : pcrs.numbers()) {
        const TPML_PCR_SELECTION one = pcrs.only(pcr);
        EsysPtr<TPML_DIGEST> digests;
        VTPM_TRY(checked("TPM2_PCR_Read", [&] {
            return Esys_PCR_Read(esys_.get(), audit.get(), ESYS_TR_NONE, ESYS_TR_NONE, &one, nullptr, nullptr,
                                 out(digests));
        }));
        if (digests->count != 1)
            return fail(ErrorCode::kSystem, "the hardware TPM does not tell the value of PCR {}", pcr);
        const TPM2B_DIGEST &value = digests->digests[0];
        values.emplace(pcr, Bytes(value.buffer, value.buffer + value.size));
    }
    return values;
}

}  // namespace vtpm
