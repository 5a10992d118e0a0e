// SPDX-License-Identifier: Apache-2.0
#include "manager/hardware_tpm/storage_primary.hpp"

#include "manager/hardware_tpm/marshal.hpp"
#include "manager/hardware_tpm/tpm_error.hpp"
#include "manager/tpm/public_area.hpp"

namespace vtpm {
namespace {

// TCG TPM v2.0 Provisioning Guidance, 7.5.1: the ECC P-256 storage root key.
TPMT_PUBLIC storage_template() {
    TPMT_PUBLIC area{};
    area.type = TPM2_ALG_ECC;
    area.nameAlg = TPM2_ALG_SHA256;
    area.objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                            TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT;
    TPMS_ECC_PARMS &ecc = area.parameters.eccDetail;
    ecc.symmetric.algorithm = TPM2_ALG_AES;
    ecc.symmetric.keyBits.aes = 128;
    ecc.symmetric.mode.aes = TPM2_ALG_CFB;
    ecc.scheme.scheme = TPM2_ALG_NULL;
    ecc.curveID = TPM2_ECC_NIST_P256;
    ecc.kdf.scheme = TPM2_ALG_NULL;
    area.unique.ecc.x.size = kCoordinate;  // zeros, says the template
    area.unique.ecc.y.size = kCoordinate;
    return area;
}

// All of it is as asked for, but for the point itself.
Result<> require_template(TPMT_PUBLIC area) {
    area.unique = storage_template().unique;
    if (marshalled(area) != marshalled(storage_template()))
        return fail(ErrorCode::kRefused, "hardware TPM: its storage key is not as the template says");
    return {};
}

ESYS_TR handle_of(Hierarchy hierarchy) {
    return hierarchy == Hierarchy::kOwner ? ESYS_TR_RH_OWNER : ESYS_TR_RH_ENDORSEMENT;
}

// Unsalted: there is no key yet to salt it to. It keeps the password off the bus, where one who listens could try
// passwords against what he heard: a long random one is not found so.
Result<EsysHandle> password_session(ESYS_CONTEXT *context) {
    TPMT_SYM_DEF none{};
    none.algorithm = TPM2_ALG_NULL;
    ESYS_TR raw = ESYS_TR_NONE;
    VTPM_TRY(checked("TPM2_StartAuthSession", [&] {
        return Esys_StartAuthSession(context, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                     nullptr, TPM2_SE_HMAC, &none, TPM2_ALG_SHA256, &raw);
    }));
    EsysHandle session(context, raw);
    VTPM_TRY(checked("Esys_TRSess_SetAttributes",
                     [&] { return Esys_TRSess_SetAttributes(context, raw, TPMA_SESSION_CONTINUESESSION, 0xff); }));
    return session;
}

Result<> set_password(ESYS_CONTEXT *context, ESYS_TR hierarchy, ByteView password) {
    if (password.size() > sizeof TPM2B_AUTH::buffer)
        return fail(ErrorCode::kInvalid, "hardware TPM: a hierarchy's password has at most {} bytes",
                    sizeof TPM2B_AUTH::buffer);
    const Authorization auth(password);
    return checked("Esys_TR_SetAuth", [&] { return Esys_TR_SetAuth(context, hierarchy, &auth); });
}

}  // namespace

tl::unexpected<Error> unauthorized(Hierarchy hierarchy) {
    return fail(ErrorCode::kRefused,
                "hardware TPM: its {0} hierarchy has another authorization value than we know, which is the credential "
                "tpm-{0}-password of xen-vtpm-managerd.service, or else empty: give it (xen-vtpm-managerd(8)), or take "
                "it away: tpm2_changeauth -c {0} -p OLD",
                hierarchy == Hierarchy::kOwner ? "owner" : "endorsement");
}

Result<> set_passwords(ESYS_CONTEXT *context, const HierarchyPasswords &passwords) {
    VTPM_TRY(set_password(context, ESYS_TR_RH_OWNER, passwords.owner.view()));
    return set_password(context, ESYS_TR_RH_ENDORSEMENT, passwords.endorsement.view());
}

Result<Primary> create_primary(ESYS_CONTEXT *context, Hierarchy hierarchy, const TPMT_PUBLIC &in) {
    const TPM2B_PUBLIC in_public{0, in};
    const TPM2B_SENSITIVE_CREATE sensitive{};
    const TPM2B_DATA outside_info{};
    const TPML_PCR_SELECTION creation_pcrs{};
    ESYS_TR raw = ESYS_TR_NONE;
    EsysPtr<TPM2B_PUBLIC> out_public;
    VTPM_ASSIGN(const EsysHandle session, password_session(context));
    const TSS2_RC rc = with_retry([&] {
        return Esys_CreatePrimary(context, handle_of(hierarchy), session.get(), ESYS_TR_NONE, ESYS_TR_NONE, &sensitive,
                                  &in_public, &outside_info, &creation_pcrs, &raw, out(out_public), nullptr, nullptr,
                                  nullptr);
    });
    if (answer(rc) == TpmAnswer::kUnauthorized) return unauthorized(hierarchy);
    if (rc != TSS2_RC_SUCCESS) return tpm_failure(rc, "TPM2_CreatePrimary");
    return Primary{EsysHandle(context, raw), out_public->publicArea};
}

Result<StoragePrimary> storage_primary(ESYS_CONTEXT *context, SavedPrimary &saved) {
    if (saved.context) {
        ESYS_TR raw = ESYS_TR_NONE;
        if (with_retry([&] { return Esys_ContextLoad(context, saved.context.get(), &raw); }) == TSS2_RC_SUCCESS)
            return StoragePrimary{EsysHandle(context, raw), saved.name};
    }
    saved.context.reset();
    VTPM_ASSIGN(Primary primary, create_primary(context, Hierarchy::kOwner, storage_template()));
    VTPM_TRY(require_template(primary.area));
    saved.name = tpm_name(primary.area);
    // A TPM that cannot is asked to make the key each time.
    (void)with_retry([&] { return Esys_ContextSave(context, primary.handle.get(), out(saved.context)); });
    return StoragePrimary{std::move(primary.handle), saved.name};
}

}  // namespace vtpm
