// SPDX-License-Identifier: Apache-2.0
// What the hardware TPM says of itself and of its host, for others.
#pragma once

#include "base/bytes.hpp"
#include "manager/tpm/pcr_values.hpp"

namespace vtpm {

// Signed by the attestation key. Marshalled: TPMS_ATTEST and TPMT_SIGNATURE.
struct TpmStatement {
    Bytes attested;
    Bytes signature;
};

struct HostEvidence {
    Bytes attestation_key;          // TPM2B_PUBLIC
    PcrValues values;               // of the quoted PCRs
    TpmStatement quote;             // TPM2_Quote
    TpmStatement ca_certification;  // TPM2_Certify of the CA's key
};

// Whose TPM it is. TPM2B_PUBLICs, and a certificate of the TPM's maker in DER: empty if the TPM keeps none. The chain
// is what may lead on from there, certificates in DER one after the other: help, that nobody vouches for.
struct HostIdentity {
    Bytes endorsement_key;
    Bytes endorsement_certificate;
    Bytes attestation_key;
    Bytes endorsement_chain{};
};

// What TPM2_MakeCredential makes for a TPM that has this endorsement key. TPM2B_PUBLIC, TPM2B_ID_OBJECT and
// TPM2B_ENCRYPTED_SECRET.
struct Credential {
    Bytes endorsement_key;
    Bytes id_object;
    Bytes encrypted_secret;
};

}  // namespace vtpm
