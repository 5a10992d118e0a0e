// SPDX-License-Identifier: Apache-2.0
// A boot configuration of hosts that an approver signed: while the PCRs have these values, the group may be opened.
// Two signatures of one key. The TPM checks the first (TPM2_PolicyAuthorize), which covers the values and the group;
// the manager checks the second, which covers the whole document: the expiry, which no TPM knows of, binds only as
// far as the manager is trusted.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "manager/boot/approver_key.hpp"
#include "manager/tpm/approver.hpp"
#include "manager/tpm/pcr_values.hpp"

namespace vtpm {

// What the approver says.
struct BootApproval {
    std::string group;                        // 1 to 64 printable ASCII characters
    PcrSelection pcrs;                        // not empty
    PcrValues values;                         // one for each of `pcrs`, of their bank's size
    std::optional<std::int64_t> not_after{};  // seconds since 1970; the last one in which it holds
    std::uint32_t generation = 1;             // of the group's key; an approval for another one does not open it
};

class BootPolicy {
public:
    static constexpr std::size_t kMaxSize = 65'536;

    // The file that to_json() writes. kInvalid names the field. Nothing is believed yet: verify().
    static Result<BootPolicy> parse(std::string_view text);
    [[nodiscard]] std::string to_json() const;

    // `private_key`: PEM (signing_key.hpp). kInvalid if the approval or the key is not usable.
    static Result<BootPolicy> sign(ByteView private_key, BootApproval approval);

    // Of everything it says, 16 hexadecimal digits: its name in lists.
    [[nodiscard]] std::string id() const;

    // kRefused unless the approver signed exactly this and it has not expired. Whether it is for the group and the
    // generation in question is left to compare; the TPM does not open another.
    [[nodiscard]] Result<> verify(const ApproverKey &approver, std::int64_t now) const;

    [[nodiscard]] const BootApproval &approval() const { return approval_; }
    // The fingerprint of the key that is said to have signed.
    [[nodiscard]] const std::string &approver() const { return approver_; }

    // For the TPM. kInvalid if the signature cannot be one of the approver's key.
    [[nodiscard]] Result<ApprovedBoot> for_tpm(const ApproverKey &approver) const;

private:
    explicit BootPolicy(BootApproval approval) : approval_(std::move(approval)) {}
    [[nodiscard]] Bytes tpm_statement() const;
    [[nodiscard]] Bytes document() const;

    BootApproval approval_;
    std::string approver_;
    Bytes tpm_signature_;
    Bytes document_signature_;
};

// For TPM2_PolicyAuthorize: what keeps an approval for one group, or for a former key of it, from opening another of
// the same approver.
TPM2B_NONCE policy_ref(std::string_view group, std::uint32_t generation);

// The digest of a SHA-256 session after TPM2_PolicyPCR as its first assertion (TCG Part 3, 23.7).
TPM2B_DIGEST pcr_policy(const PcrSelection &pcrs, const PcrValues &values);

// kInvalid names the field that is not as BootApproval says.
Result<> check(const BootApproval &approval);

}  // namespace vtpm
