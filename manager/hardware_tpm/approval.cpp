// SPDX-License-Identifier: Apache-2.0
#include "manager/hardware_tpm/approval.hpp"

#include "manager/hardware_tpm/session.hpp"
#include "manager/hardware_tpm/tpm_error.hpp"

namespace vtpm {
namespace {

// Not under the null hierarchy: tickets that come of keys there are worth nothing.
Result<EsysHandle> load(ESYS_CONTEXT *context, const TPM2B_PUBLIC &key) {
    ESYS_TR raw = ESYS_TR_NONE;
    VTPM_TRY(checked("TPM2_LoadExternal of the approver's key", [&] {
        return Esys_LoadExternal(context, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, nullptr, &key, ESYS_TR_RH_OWNER,
                                 &raw);
    }));
    return EsysHandle(context, raw);
}

// Says to TPM2_PolicyAuthorize that this TPM has checked the signature.
Result<EsysPtr<TPMT_TK_VERIFIED>> verify(ESYS_CONTEXT *context, const Approver &approver, const ApprovedBoot &boot) {
    VTPM_ASSIGN(const EsysHandle key, load(context, approver.key));
    EsysPtr<TPMT_TK_VERIFIED> ticket;
    VTPM_TRY(checked("TPM2_VerifySignature of the boot policy", [&] {
        return Esys_VerifySignature(context, key.get(), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &boot.signed_digest,
                                    &boot.signature, out(ticket));
    }));
    return ticket;
}

}  // namespace

Result<> require_usable(ESYS_CONTEXT *context, const Approver &approver) {
    if (const auto key = load(context, approver.key); !key)
        return fail(ErrorCode::kRefused, "the hardware TPM cannot use this approver's key: {}", key.error().text);
    return {};
}

Result<> assert_approved_boot(ESYS_CONTEXT *context, ESYS_TR policy_session, const Approver &approver,
                              const ApprovedBoot &boot) {
    VTPM_ASSIGN(const auto ticket, verify(context, approver, boot));
    VTPM_TRY(assert_pcrs(context, policy_session, boot.pcrs));
    return checked("TPM2_PolicyAuthorize", [&] {
        return Esys_PolicyAuthorize(context, policy_session, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &boot.policy,
                                    &approver.policy_ref, &approver.name, ticket.get());
    });
}

}  // namespace vtpm
