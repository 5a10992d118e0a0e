// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <tss2/tss2_tpm2_types.h>

namespace vtpm {

// A CA's key as a TPM makes it, its two numbers zero: it never leaves that TPM.
TPMT_PUBLIC ca_key_form();

}  // namespace vtpm
