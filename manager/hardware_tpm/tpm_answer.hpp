// SPDX-License-Identifier: Apache-2.0
// What an answer of the hardware TPM means for who asked: the one table of that. An answer is a TSS2_RC: a response
// code of the TPM (TCG Part 2, 6.6), from itself or through a resource manager, or an error of the TSS between it and
// us.
#pragma once

#include <tss2/tss2_common.h>

namespace vtpm {

enum class TpmAnswer {
    kDone,

    // Passing: who asks again, soon, has another answer.
    kBusy,  // the same command again
    kVoid,  // what was begun is worth nothing any more (a session, a loaded object, the connection): from the beginning

    kNotNow,  // until something ends that only time or somebody else can end

    // Final: the answer stays until somebody changes what it is about.
    kUnauthorized,  // another authorization value is needed
    kPolicyFails,   // a policy is not met, or is not the object's
    kForeign,       // an object of another TPM, or one that was changed
    kClosed,        // a hierarchy or a command is disabled
    kNoRoom,        // for another NV index
    kAbsent,        // there is no such NV index
    kUnwritten,     // the NV index was never written

    kFault,  // everything else: of ours, or of the TPM; nobody knows whether it stays
};

TpmAnswer answer(TSS2_RC rc);

// The response code without layer, parameter, session and handle numbers: TPM2_RC_BAD_AUTH and so on.
TSS2_RC plain_code(TSS2_RC rc);

}  // namespace vtpm
