// SPDX-License-Identifier: Apache-2.0
// What a verifier is sent: attestations and identities of hosts that may not exist.
#include <algorithm>

#include "manager/attestation/enrolment.hpp"
#include "manager/attestation/verification.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    using namespace vtpm;
    const std::string_view text(reinterpret_cast<const char *>(data), size);  // bytes as text
    if (const auto host = parse_host_identity(text)) {
        require(to_json(*host) == to_json(*parse_host_identity(to_json(*host))), "what is written is read");
        if (const auto made = challenge(*host, std::nullopt, 0))
            require(parse_credential(to_json(made->credential)).has_value(), "a challenge is one");
        (void)challenge(*host, Makers(), 0);
    }
    (void)parse_credential(text);
    (void)certificates_from_pem(text);
    const auto attestation = Attestation::parse(text);
    if (!attestation) return 0;
    require(Attestation::parse(attestation->to_json()).has_value(), "what is written is read");
    // By its own attestation key, so that the checks go deep.
    Trust trust;
    trust.nonce = attestation->nonce;
    trust.attestation_key = attestation->host.attestation_key;
    trust.now = 1'800'000'000;
    (void)verify(*attestation, trust);
    // Whoever signed it, he signed no other nonce.
    Attestation other = *attestation;
    other.nonce[size % other.nonce.size()] ^= 1;
    trust.nonce = other.nonce;
    const auto checks = verify(other, trust);
    require(std::ranges::any_of(checks, [](const Check &check) { return !check.problem.empty(); }),
            "an attestation of one nonce passes for that of another");
    return 0;
}
