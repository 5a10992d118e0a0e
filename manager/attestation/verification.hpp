// SPDX-License-Identifier: Apache-2.0
// Whether an attestation is true, by what its reader trusts and nothing else: no TPM, no Xen, no network.
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include <optional>
#include <string>
#include <vector>

#include "manager/attestation/attestation.hpp"
#include "manager/boot/approver_key.hpp"
#include "manager/crypto/certificate_chain.hpp"

namespace vtpm {

// What the verifier knows.
struct Trust {
    Bytes nonce;            // that he asked with
    Bytes attestation_key;  // TPM2B_PUBLIC, of the host's TPM (enrolment.hpp)
    std::optional<Uuid> vtpm{};
    std::string group{};               // that the vTPM must be of; empty: any
    std::uint32_t min_generation = 1;  // of the group's key: what was approved for former ones is void
    // Which boots of the host are good: those that this key's owner approved, and those with these values.
    std::optional<ApproverKey> approver{};
    PcrSelection pcrs{};
    PcrValues values{};
    // What the guest must have booted: the values of `launch predict`.
    PcrSelection launch_pcrs{};
    PcrValues launch{};
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

// What the host's TPM says with the quote: TPMS_ATTEST, of which nothing is obfuscated, since the attestation key is in
// the endorsement hierarchy (TCG Part 1, 36.7). kRefused: the quote does not hold.
Result<TPMS_ATTEST> host_quote(const Attestation &attestation, const Trust &trust);

}  // namespace vtpm
