// SPDX-License-Identifier: Apache-2.0
// What a policy session's digest is after its assertions, as the TPM computes it (TCG Part 3, 23): an object's
// authPolicy. Computed here, so that nobody between us and the TPM has a say in what a key is sealed under.
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include "base/big_endian.hpp"
#include "base/bytes.hpp"
#include "manager/tpm/pcr_selection.hpp"
#include "manager/tpm/pcr_values.hpp"

namespace vtpm {

// A TPML_PCR_SELECTION.
Bytes marshalled(const PcrSelection &pcrs);

class PolicyDigest {
public:
    // TPM2_PolicyPCR: `pcrs` have these values.
    PolicyDigest &pcrs(const PcrSelection &pcrs, const PcrValues &values);
    // TPM2_PolicyAuthorize: what came before it is what this key's owner signed, together with `policy_ref`.
    PolicyDigest &authorize(const TPM2B_NAME &key, const TPM2B_NONCE &policy_ref);
    // TPM2_PolicyNV: the index of this Name holds `content`.
    PolicyDigest &nv_equals(const TPM2B_NAME &index, ByteView content);
    // TPM2_PolicyCommandCode.
    PolicyDigest &command_code(TPM2_CC code);

    [[nodiscard]] const TPM2B_DIGEST &value() const { return value_; }

private:
    PolicyDigest &extend(TPM2_CC assertion, const BigEndian &with);
    PolicyDigest &set(const BigEndian &of);
    TPM2B_DIGEST value_{TPM2_SHA256_DIGEST_SIZE, {}};
};

}  // namespace vtpm
