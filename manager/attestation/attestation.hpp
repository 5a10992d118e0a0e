// SPDX-License-Identifier: Apache-2.0
// What a host says of one of its vTPMs, from the hardware TPM up: one JSON file for a verifier far away
// (docs/attestation.md).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/uuid.hpp"
#include "manager/tpm/endorsement_key.hpp"
#include "manager/tpm/evidence.hpp"

namespace vtpm {

struct Attestation {
    static constexpr std::size_t kMaxSize = 65'536;

    Bytes nonce;  // the verifier's
    Uuid vtpm;
    std::string group;
    std::uint32_t generation = 1;  // of the group's key
    std::string approver;          // the fingerprint of his key; empty: the group has none
    std::string boot_policy;       // his, that approves the present boot (BootPolicy::to_json()); empty: none does
    PcrSelection pcrs;             // that are quoted
    HostEvidence host;
    Bytes ca_key;          // TPM2B_PUBLIC
    Bytes ca_certificate;  // DER
    std::vector<CertifiedKey> endorsement_keys;
    // SHA-256 of the event log that the vTPM was given at its power-on: what the guest booted, or that nobody measured
    // that. Empty: it was given none.
    Bytes event_log_digest{};
    Bytes event_log{};  // the same, of whoever had it; empty: nobody brought it

    [[nodiscard]] std::string to_json() const;
    // What to_json() wrote. kInvalid names the field. Nothing is believed yet: verification.hpp.
    static Result<Attestation> parse(std::string_view text);

    // The extraData of both statements of the host: a SHA-256 digest over the nonce and over all that the quote cannot
    // say by itself. kInvalid: one of the keys is none.
    [[nodiscard]] Result<Bytes> bound_data() const;
};

// kInvalid: not of kMinAttestNonce to kMaxAttestNonce bytes in hexadecimal.
Result<Bytes> nonce_from(std::string_view hexadecimal);

}  // namespace vtpm
