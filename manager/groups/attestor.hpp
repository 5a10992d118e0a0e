// SPDX-License-Identifier: Apache-2.0
// What this host says of its vTPMs to others, with the hardware TPM's word for it. In the worker: it waits for the TPM.
#pragma once

#include <optional>
#include <set>

#include "manager/attestation/attestation.hpp"
#include "manager/groups/certificate_authorities.hpp"

namespace vtpm {

class Attestor {
public:
    Attestor(Store &store, GroupKeys &keys, CertificateAuthorities &authorities)
        : store_(store), keys_(keys), authorities_(authorities) {}

    // Of a vTPM whose group is open. `pcrs` absent: those that its group's boots are judged by, or sha256:0 to 7.
    // kNotFound: there is no such vTPM; kInvalid: it has no certified endorsement keys, so nobody could tell it from
    // another; kRefused: its group is not open, or no TPM seals.
    enum class Asked { kByTheAdministrator, kByTheGuest };
    Result<Attestation> attest(const Uuid &uuid, Bytes nonce, const std::optional<PcrSelection> &pcrs, Asked asked);

    // enrolment.hpp. kRefused: no TPM seals, or the challenge is for another.
    Result<HostIdentity> host(std::optional<EkTemplate> wanted);
    Result<SecretBytes> answer(const Credential &challenge);

private:
    Result<> record(const Attestation &attestation, Asked asked);

    Store &store_;
    GroupKeys &keys_;
    CertificateAuthorities &authorities_;
    std::set<Uuid> recorded_;  // guests whose asking is in the audit log
};

}  // namespace vtpm
