// SPDX-License-Identifier: Apache-2.0
// How a verifier comes to trust a host's attestation key: the host says which it is, and whose TPM it is in; he asks
// that TPM for a secret that it gives only if that is true (TCG Part 1, 24). Three small JSON files travel.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/secret.hpp"
#include "manager/crypto/certificate_chain.hpp"
#include "manager/tpm/endorsement_key.hpp"
#include "manager/tpm/evidence.hpp"

namespace vtpm {

// The host's word.
std::string to_json(const HostIdentity &host);
// kInvalid names the field. Nothing is believed yet.
Result<HostIdentity> parse_host_identity(std::string_view text);

// A certificate of the TPM's maker that came otherwise, with what may lead on from it, in the place of the host's.
// kRefused: it is for another key.
Result<> use_certificate(HostIdentity &host, const std::vector<Certificate> &certificates);
// The template of the key that a certificate is for. kInvalid: of none that a host's TPM is asked for.
Result<EkTemplate> certified_template(X509 *certificate);

// Whom the verifier trusts to certify TPMs' endorsement keys.
struct Makers {
    std::vector<Certificate> certificates;
    std::vector<RevocationList> revoked;  // empty: whether something was revoked is not asked
};

// The verifier's question, and the answer that he will get from a TPM that has both keys. Without `makers`: any TPM
// that answers (he then has to know the endorsement key otherwise). kRefused: the keys or the certificate are not as
// they must be.
struct Challenge {
    Credential credential;
    Secret<32> answer;
};
Result<Challenge> challenge(const HostIdentity &host, const std::optional<Makers> &makers, std::int64_t now);
std::string to_json(const Credential &credential);
Result<Credential> parse_credential(std::string_view text);

}  // namespace vtpm
