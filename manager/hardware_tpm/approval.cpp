// SPDX-License-Identifier: Apache-2.0
#include "manager/hardware_tpm/approval.hpp"

#include "manager/hardware_tpm/session.hpp"
#include "manager/hardware_tpm/tpm_error.hpp"

namespace vtpm {
namespace {

// The session's digest is not the approved policy, which is the first parameter.
constexpr TSS2_RC kOtherPolicy = TPM2_RC_VALUE + TPM2_RC_P + TPM2_RC_1;

// Not under the null hierarchy: tickets that come of keys there are worth nothing.
Result<EsysHandle> load(ESYS_CONTEXT *context, const TPM2B_PUBLIC &key) {
    ESYS_TR raw = ESYS_TR_NONE;
    VTPM_TRY(checked("TPM2_LoadExternal of the approver's key", [&] {
        return Esys_LoadExternal(context, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, nullptr, &key, ESYS_TR_RH_OWNER,
                                 &raw);
    }));
    return EsysHandle(context, raw);
}

}  // namespace

Result<ApprovalTicket> verify(ESYS_CONTEXT *context, const Approver &approver, const ApprovedBoot &boot) {
    VTPM_ASSIGN(const EsysHandle key, load(context, approver.key));
    ApprovalTicket ticket;
    VTPM_TRY(checked("TPM2_VerifySignature of the boot policy", [&] {
        return Esys_VerifySignature(context, key.get(), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &boot.signed_digest,
                                    &boot.signature, out(ticket));
    }));
    return ticket;
}

Result<> require_usable(ESYS_CONTEXT *context, const Approver &approver) {
    const auto key = load(context, approver.key);
    if (key) return {};
    if (key.error().code == ErrorCode::kUnavailable) return tl::make_unexpected(key.error());
    return fail(ErrorCode::kRefused, "the hardware TPM cannot use this approver's key: {}", key.error().text);
}

Result<> assert_approved_boot(ESYS_CONTEXT *context, ESYS_TR policy_session, const Approver &approver,
                              const ApprovedBoot &boot, const ApprovalTicket &ticket) {
    VTPM_TRY(assert_pcrs(context, policy_session, boot.pcrs));
    const TSS2_RC rc = with_retry([&] {
        return Esys_PolicyAuthorize(context, policy_session, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &boot.policy,
                                    &approver.policy_ref, &approver.name, ticket.get());
    });
    if (rc == TSS2_RC_SUCCESS) return {};
    auto failure = tpm_failure(rc, "TPM2_PolicyAuthorize");
    if ((rc & ~TSS2_RC_LAYER_MASK) == kOtherPolicy) {
        failure.value().code = ErrorCode::kUnavailable;
        failure.value().passing = true;
    }
    return failure;
}

}  // namespace vtpm
