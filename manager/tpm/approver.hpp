// SPDX-License-Identifier: Apache-2.0
// An approver as TPM2_PolicyAuthorize has him (TCG Part 3, 23.16).
#pragma once

#include "manager/tpm/pcr_selection.hpp"

namespace vtpm {

// Who approves, and for what: an approval with another reference does not open.
struct Approver {
    TPM2B_PUBLIC key;
    TPM2B_NAME name;
    TPM2B_NONCE policy_ref;
};

// What he approved: the digest of a session in which `pcrs` had certain values, and his signature.
struct ApprovedBoot {
    PcrSelection pcrs;
    TPM2B_DIGEST policy;
    TPM2B_DIGEST signed_digest;  // aHash: of the policy and the reference
    TPMT_SIGNATURE signature;
};

}  // namespace vtpm
