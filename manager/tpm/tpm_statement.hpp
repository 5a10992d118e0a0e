// SPDX-License-Identifier: Apache-2.0
// What a TPM signed (TCG Part 2, 10.12), read by who does not have that TPM.
#pragma once

#include <openssl/types.h>
#include <tss2/tss2_tpm2_types.h>

#include "manager/tpm/evidence.hpp"

namespace vtpm {

// kRefused unless `statement` is, in whole, one of `type` (TPM2_ST_ATTEST_QUOTE and so on) that a TPM made, with
// `extra_data`, and signed by `key`.
Result<TPMS_ATTEST> verified(const TpmStatement &statement, EVP_PKEY *key, TPM2_ST type, ByteView extra_data);

}  // namespace vtpm
