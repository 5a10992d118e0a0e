// SPDX-License-Identifier: Apache-2.0
// Sessions whose salt only the storage primary can decrypt, with AES-128-CFB parameter encryption: what goes to the
// TPM and back cannot be read or changed on the bus.
#pragma once

#include "manager/hardware_tpm/esys.hpp"
#include "manager/hardware_tpm/pcr_selection.hpp"

namespace vtpm {

enum class SessionUse {
    kCommand,  // authorizes with the (empty) authValue; encrypts both ways
    kPolicy,   // authorizes by a policy; encrypts the response, for commands without a parameter to encrypt
    kTrial,    // computes a policy digest
};

Result<EsysHandle> start_session(ESYS_CONTEXT *context, ESYS_TR primary, SessionUse use);

// TPM2_PolicyPCR: `pcrs` have the values of which `values` is the digest (empty: those that they have now).
Result<> assert_pcrs(ESYS_CONTEXT *context, ESYS_TR policy_session, const PcrSelection &pcrs,
                     const TPM2B_DIGEST &values = {});
// TPM2_PolicyCommandCode: nothing but TPM2_Unseal. The last assertion of every group key's policy: it makes "this TPM
// only" a policy as well, and ends any other use of the object (TPM2_ObjectChangeAuth).
Result<> assert_unseal(ESYS_CONTEXT *context, ESYS_TR policy_session);
// TPM2_PolicyGetDigest.
Result<TPM2B_DIGEST> digest_of(ESYS_CONTEXT *context, ESYS_TR policy_session);

}  // namespace vtpm
