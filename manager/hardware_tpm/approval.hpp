// SPDX-License-Identifier: Apache-2.0
// TPM2_PolicyAuthorize (TCG Part 3, 23.16): a sealed object names a public key instead of PCR values, and opens under
// every policy that this key's owner signed.
#pragma once

#include "manager/hardware_tpm/esys.hpp"
#include "manager/tpm/approver.hpp"

namespace vtpm {

// kRefused if the TPM cannot use the approver's key.
Result<> require_usable(ESYS_CONTEXT *context, const Approver &approver);

// Says to TPM2_PolicyAuthorize that this TPM has checked the approver's signature.
using ApprovalTicket = EsysPtr<TPMT_TK_VERIFIED>;
Result<ApprovalTicket> verify(ESYS_CONTEXT *context, const Approver &approver, const ApprovedBoot &boot);

// In a policy session without assertions. Fails unless the PCRs have the values that were approved: `boot` was chosen
// since they had, so that they changed meanwhile, and another choice may be right.
Result<> assert_approved_boot(ESYS_CONTEXT *context, ESYS_TR policy_session, const Approver &approver,
                              const ApprovedBoot &boot, const ApprovalTicket &ticket);

}  // namespace vtpm
