// SPDX-License-Identifier: Apache-2.0
// TPM2_MakeCredential (TCG Part 1, 24) without a TPM: a secret that only the TPM with a certain endorsement key can
// read, and only while it has the key of a certain Name.
#pragma once

#include "manager/tpm/endorsement_key.hpp"
#include "manager/tpm/evidence.hpp"

namespace vtpm {

// `key`: RSA 2048 or P-256, whose templates have SHA-256 and AES-128. `name`: tpm_name(). `secret`: at most 32 bytes.
Result<Credential> make_credential(const EndorsementKey &key, ByteView name, ByteView secret);

}  // namespace vtpm
