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

// What a sealed group key asks for: `pcrs` with the values of which `values` is the digest (empty: whatever they are
// now; no PCRs: no such condition), and nothing but TPM2_Unseal.
Result<> satisfy_policy(ESYS_CONTEXT *context, ESYS_TR policy_session, const PcrSelection &pcrs,
                        const TPM2B_DIGEST &values);

}  // namespace vtpm
