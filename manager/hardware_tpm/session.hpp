// SPDX-License-Identifier: Apache-2.0
// Sessions whose salt only the storage primary can decrypt, with AES-128-CFB parameter encryption: what goes to the
// TPM and back cannot be read or changed on the bus.
#pragma once

#include "manager/hardware_tpm/esys.hpp"
#include "manager/tpm/pcr_selection.hpp"

namespace vtpm {

enum class SessionUse {
    kCommand,  // authorizes with the (empty) authValue; encrypts both ways
    kAnswer,   // the same, for commands without a parameter to encrypt: encrypts the response
    kPolicy,   // authorizes by a policy; encrypts the response, for commands without a parameter to encrypt
    kAudit,    // authorizes nothing: the answer of a command that needs no authorization is the TPM's own
};

Result<EsysHandle> start_session(ESYS_CONTEXT *context, ESYS_TR primary, SessionUse use);
// From one use to another; not to or from a policy's.
Result<> set_attributes(ESYS_CONTEXT *context, ESYS_TR session, SessionUse use);

// TPM2_PolicyRestart: a policy session as if it had just begun.
Result<> restart(ESYS_CONTEXT *context, ESYS_TR policy_session);
// TPM2_PolicyPCR: `pcrs` are as they are now.
Result<> assert_pcrs(ESYS_CONTEXT *context, ESYS_TR policy_session, const PcrSelection &pcrs);
// TPM2_PolicyCommandCode: nothing but TPM2_Unseal. The last assertion of every group key's policy: it makes "this TPM
// only" a policy as well, and ends any other use of the object (TPM2_ObjectChangeAuth).
Result<> assert_unseal(ESYS_CONTEXT *context, ESYS_TR policy_session);

}  // namespace vtpm
