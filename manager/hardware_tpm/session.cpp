// SPDX-License-Identifier: Apache-2.0
#include "manager/hardware_tpm/session.hpp"

#include "manager/hardware_tpm/tpm_error.hpp"

namespace vtpm {
namespace {

TPM2_SE session_type(SessionUse use) { return use == SessionUse::kPolicy ? TPM2_SE_POLICY : TPM2_SE_HMAC; }

TPMA_SESSION attributes(SessionUse use) {
    const TPMA_SESSION both = TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_ENCRYPT;
    if (use == SessionUse::kAudit) return TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_AUDIT;
    return use == SessionUse::kCommand ? both | TPMA_SESSION_DECRYPT : both;
}

}  // namespace

Result<EsysHandle> start_session(ESYS_CONTEXT *context, ESYS_TR primary, SessionUse use) {
    TPMT_SYM_DEF aes{};
    aes.algorithm = TPM2_ALG_AES;
    aes.keyBits.aes = 128;
    aes.mode.aes = TPM2_ALG_CFB;
    ESYS_TR raw = ESYS_TR_NONE;
    VTPM_TRY(checked("TPM2_StartAuthSession", [&] {
        return Esys_StartAuthSession(context, primary, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, nullptr,
                                     session_type(use), &aes, TPM2_ALG_SHA256, &raw);
    }));
    EsysHandle session(context, raw);
    VTPM_TRY(set_attributes(context, raw, use));
    return session;
}

Result<> set_attributes(ESYS_CONTEXT *context, ESYS_TR session, SessionUse use) {
    return checked("Esys_TRSess_SetAttributes",
                   [&] { return Esys_TRSess_SetAttributes(context, session, attributes(use), 0xff); });
}

Result<> restart(ESYS_CONTEXT *context, ESYS_TR session) {
    return checked("TPM2_PolicyRestart",
                   [&] { return Esys_PolicyRestart(context, session, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE); });
}

Result<> assert_pcrs(ESYS_CONTEXT *context, ESYS_TR session, const PcrSelection &pcrs) {
    const TPML_PCR_SELECTION selection = pcrs.tpm();
    const TPM2B_DIGEST present{};
    return checked("TPM2_PolicyPCR", [&] {
        return Esys_PolicyPCR(context, session, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &present, &selection);
    });
}

Result<> assert_unseal(ESYS_CONTEXT *context, ESYS_TR session) {
    return checked("TPM2_PolicyCommandCode", [&] {
        return Esys_PolicyCommandCode(context, session, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, TPM2_CC_Unseal);
    });
}

}  // namespace vtpm
