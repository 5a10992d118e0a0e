// SPDX-License-Identifier: Apache-2.0
// Whether an attestation is true, by what its reader trusts and nothing else: no TPM, no Xen, no network.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "manager/attestation/attestation.hpp"
#include "manager/ca/certificate_chain.hpp"
#include "manager/policy/approver_key.hpp"

namespace vtpm {

// What the verifier knows.
struct Trust {
    Bytes nonce;            // that he asked with
    Bytes attestation_key;  // TPM2B_PUBLIC, of the host's TPM (enrolment.hpp)
    std::optional<Uuid> vtpm{};
    // Which boots of the host are good: those that this key's owner approved, and those with these values.
    std::optional<ApproverKey> approver{};
    PcrSelection pcrs{};
    PcrValues values{};
    // CAs of hosts or groups that the vTPM came from: its certificates stay theirs.
    std::vector<Certificate> former_cas{};
    std::int64_t now = 0;  // seconds since 1970
};

struct Check {
    std::string what;
    std::string problem;  // empty: it holds
    std::string detail;   // what was found, if it holds
};

// All of them, though one may have failed. The attestation is true if all hold.
std::vector<Check> verify(const Attestation &attestation, const Trust &trust);

}  // namespace vtpm
