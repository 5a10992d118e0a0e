// SPDX-License-Identifier: Apache-2.0
#include <openssl/sha.h>
#include <tss2/tss2_mu.h>

#include <algorithm>
#include <array>
#include <span>

#include "manager/hardware_tpm/hardware_tpm.hpp"
#include "manager/hardware_tpm/marshal.hpp"
#include "manager/hardware_tpm/nv_handle.hpp"
#include "manager/hardware_tpm/tpm_error.hpp"

namespace vtpm {
namespace {

// Read and written by who knows its authorization; whose owner's failures lock nothing.
TPM2B_NV_PUBLIC nv_template(std::uint32_t index, std::size_t size) {
    TPM2B_NV_PUBLIC area{};
    area.nvPublic.nvIndex = index;
    area.nvPublic.nameAlg = TPM2_ALG_SHA256;
    area.nvPublic.attributes = TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE | TPMA_NV_NO_DA;
    area.nvPublic.dataSize = static_cast<UINT16>(size);
    return area;
}

bool is_secret(const TPM2B_NAME &name, std::uint32_t index, std::size_t size) {
    TPMS_NV_PUBLIC area = nv_template(index, size).nvPublic;
    if (name == nv_name(area)) return true;
    area.attributes |= TPMA_NV_WRITTEN;
    return name == nv_name(area);
}

}  // namespace

TPM2B_NAME nv_name(const TPMS_NV_PUBLIC &area) {
    std::array<std::uint8_t, sizeof area> buffer{};
    std::size_t size = 0;
    require(Tss2_MU_TPMS_NV_PUBLIC_Marshal(&area, buffer.data(), buffer.size(), &size) == TSS2_RC_SUCCESS,
            "an NV index's public area is marshalled");
    TPM2B_NAME name{2 + SHA256_DIGEST_LENGTH, {TPM2_ALG_SHA256 >> 8, TPM2_ALG_SHA256 & 0xff}};
    SHA256(buffer.data(), size, name.name + 2);
    return name;
}

Result<TPM2B_NAME> nv_name(ESYS_CONTEXT *context, const NvHandle &nv) {
    EsysPtr<TPM2B_NAME> name;
    VTPM_TRY(checked("Esys_TR_GetName", [&] { return Esys_TR_GetName(context, nv.get(), out(name)); }));
    return *name;
}

bool operator==(const TPM2B_NAME &left, const TPM2B_NAME &right) {
    return std::ranges::equal(std::span(left.name, left.size), std::span(right.name, right.size));
}

Result<NvHandle> find_nv(ESYS_CONTEXT *context, std::uint32_t index, ByteView authorization, ESYS_TR session) {
    ESYS_TR raw = ESYS_TR_NONE;
    const TSS2_RC rc =
        with_retry([&] { return Esys_TR_FromTPMPublic(context, index, session, ESYS_TR_NONE, ESYS_TR_NONE, &raw); });
    if (answer(rc) == TpmAnswer::kAbsent)
        return fail(ErrorCode::kNotFound, "the hardware TPM has no NV index {:#x}", index);
    if (rc != TSS2_RC_SUCCESS) return tpm_failure(rc, "TPM2_NV_ReadPublic");
    NvHandle handle(context, raw);
    const Authorization auth(authorization);
    VTPM_TRY(checked("Esys_TR_SetAuth", [&] { return Esys_TR_SetAuth(context, raw, &auth); }));
    return handle;
}

Result<NvHandle> define_nv(ESYS_CONTEXT *context, ESYS_TR session, const TPM2B_NV_PUBLIC &area,
                           ByteView authorization) {
    const Authorization auth(authorization);
    ESYS_TR raw = ESYS_TR_NONE;
    const TSS2_RC rc = with_retry([&] {
        return Esys_NV_DefineSpace(context, ESYS_TR_RH_OWNER, session, ESYS_TR_NONE, ESYS_TR_NONE, &auth, &area, &raw);
    });
    if (answer(rc) == TpmAnswer::kUnauthorized) return unauthorized(Hierarchy::kOwner);
    if (answer(rc) == TpmAnswer::kNoRoom)
        return fail(ErrorCode::kRefused,
                    "the hardware TPM has no room for another NV index: each group needs two, of which one is a "
                    "counter, and a third while it gets another key (tpm2_getcap handles-nv-index, tpm2_nvundefine)");
    if (rc != TSS2_RC_SUCCESS) return tpm_failure(rc, "TPM2_NV_DefineSpace");
    return NvHandle(context, raw);
}

Result<SecretBytes> HardwareTpm::nv_read(std::uint32_t index, ByteView authorization, std::size_t size) {
    VTPM_ASSIGN(const NvHandle nv, find_nv(esys_.get(), index, authorization));
    VTPM_ASSIGN(const ESYS_TR command, command_session());
    EsysPtr<TPM2B_MAX_NV_BUFFER> data;
    const TSS2_RC rc = with_retry([&] {
        return Esys_NV_Read(esys_.get(), nv.get(), nv.get(), command, ESYS_TR_NONE, ESYS_TR_NONE,
                            static_cast<UINT16>(size), 0, out(data));
    });
    if (answer(rc) == TpmAnswer::kUnwritten)
        return fail(ErrorCode::kNotFound, "NV index {:#x} was never written", index);
    if (rc != TSS2_RC_SUCCESS) return tpm_failure(rc, "TPM2_NV_Read");
    return SecretBytes(ByteView(data->buffer, data->size));
}

Result<Bytes> HardwareTpm::nv_read_public(std::uint32_t index) {
    constexpr std::size_t kChunk = 512;  // less than any TPM's MAX_NV_BUFFER_SIZE
    VTPM_ASSIGN(const NvHandle nv, find_nv(esys_.get(), index, {}));
    EsysPtr<TPM2B_NV_PUBLIC> area;
    VTPM_TRY(checked("TPM2_NV_ReadPublic", [&] {
        return Esys_NV_ReadPublic(esys_.get(), nv.get(), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, out(area), nullptr);
    }));
    Bytes content;
    while (content.size() < area->nvPublic.dataSize) {
        const std::size_t size = std::min(kChunk, area->nvPublic.dataSize - content.size());
        EsysPtr<TPM2B_MAX_NV_BUFFER> data;
        VTPM_TRY(checked("TPM2_NV_Read", [&] {
            return Esys_NV_Read(esys_.get(), nv.get(), nv.get(), ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                static_cast<UINT16>(size), static_cast<UINT16>(content.size()), out(data));
        }));
        if (data->size != size) return fail(ErrorCode::kSystem, "the hardware TPM reads NV index {:#x} short", index);
        content.insert(content.end(), data->buffer, data->buffer + data->size);
    }
    return content;
}

Result<> HardwareTpm::nv_write(std::uint32_t index, ByteView authorization, ByteView content) {
    VTPM_ASSIGN(const ESYS_TR command, command_session());
    const auto found = find_nv(esys_.get(), index, authorization).or_else([&](const Error &error) -> Result<NvHandle> {
        if (error.code != ErrorCode::kNotFound) return tl::make_unexpected(error);
        return define_nv(esys_.get(), command, nv_template(index, content.size()), authorization);
    });
    if (!found) return tl::make_unexpected(found.error());
    TPM2B_MAX_NV_BUFFER data{static_cast<UINT16>(content.size()), {}};
    std::ranges::copy(content, data.buffer);
    auto written = checked("TPM2_NV_Write", [&] {
        return Esys_NV_Write(esys_.get(), found->get(), found->get(), command, ESYS_TR_NONE, ESYS_TR_NONE, &data, 0);
    });
    explicit_bzero(&data, sizeof data);
    return written;
}

Result<> HardwareTpm::nv_remove(std::uint32_t index) {
    const auto found = find_nv(esys_.get(), index, {});
    if (!found && found.error().code == ErrorCode::kNotFound) return {};
    if (!found) return tl::make_unexpected(found.error());
    VTPM_ASSIGN(const ESYS_TR command, command_session());
    const TSS2_RC rc = with_retry([&] {
        return Esys_NV_UndefineSpace(esys_.get(), ESYS_TR_RH_OWNER, found->get(), command, ESYS_TR_NONE, ESYS_TR_NONE);
    });
    if (answer(rc) == TpmAnswer::kUnauthorized) return unauthorized(Hierarchy::kOwner);
    if (rc != TSS2_RC_SUCCESS) return tpm_failure(rc, "TPM2_NV_UndefineSpace");
    return {};
}

Result<NvUse> HardwareTpm::nv_use(std::uint32_t index, std::size_t size) {
    VTPM_ASSIGN(const ESYS_TR session, command_session());
    VTPM_TRY(set_attributes(esys_.get(), session, SessionUse::kAnswer));  // the command has nothing to encrypt
    const auto found = find_nv(esys_.get(), index, {}, session);
    VTPM_TRY(set_attributes(esys_.get(), session, SessionUse::kCommand));
    if (!found && found.error().code == ErrorCode::kNotFound) return NvUse::kNone;
    if (!found) return tl::make_unexpected(found.error());
    VTPM_ASSIGN(const TPM2B_NAME name, nv_name(esys_.get(), *found));
    if (is_secret(name, index, size)) return NvUse::kSecret;
    return is_counter(name, index) ? NvUse::kCounter : NvUse::kForeign;
}

Result<std::vector<std::uint32_t>> HardwareTpm::nv_indices(std::uint32_t first, std::uint32_t last) {
    VTPM_ASSIGN(const EsysHandle audit, audit_session());
    VTPM_ASSIGN(const auto data, capability(esys_.get(), TPM2_CAP_HANDLES, first, TPM2_MAX_CAP_HANDLES, audit.get()));
    const TPML_HANDLE &handles = data->data.handles;
    std::vector<std::uint32_t> indices;
    for (const TPM2_HANDLE handle : std::span(handles.handle, handles.count))
        if (handle >= first && handle <= last) indices.push_back(handle);
    return indices;
}

}  // namespace vtpm
