// SPDX-License-Identifier: Apache-2.0
// The attestation key (AK) of a hardware TPM: a primary of its endorsement hierarchy, so that the TPM makes the same
// one as long as it is the same TPM, and nothing of it is stored. Restricted: it signs nothing but what the TPM itself
// says.
#pragma once

#include <tss2/tss2_tpm2_types.h>

namespace vtpm {

// ECDSA with SHA-256 on P-256; its two numbers zero. Template and, with its numbers, the key.
TPMT_PUBLIC attestation_key_form();

}  // namespace vtpm
