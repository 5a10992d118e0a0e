// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/boot_policy.hpp"

#include <openssl/sha.h>

#include "base/big_endian.hpp"
#include "manager/boot/approval_fields.hpp"
#include "manager/boot/signing_key.hpp"
#include "manager/crypto/encoding.hpp"
#include "manager/tpm/policy_digest.hpp"

namespace vtpm {
namespace {

constexpr std::string_view kBootPolicy = "a boot policy";
// Their NULs are part of them: neither begins as the other does.
constexpr std::string_view kPolicyRefPrefix("xen-vtpm boot policy\0", 21);
constexpr std::string_view kDocumentPrefix("xen-vtpm boot policy document 1\0", 32);

// TPM2B_DIGEST and TPM2B_NONCE are one type.
TPM2B_DIGEST digest_of(ByteView bytes) {
    TPM2B_DIGEST digest{SHA256_DIGEST_LENGTH, {}};
    SHA256(bytes.data(), bytes.size(), digest.buffer);
    return digest;
}

// None would approve every boot, for ever.
Result<> check_pcrs(const PcrSelection &pcrs) {
    if (pcrs.empty()) return fail(ErrorCode::kInvalid, "a boot policy's 'pcrs' must select at least one PCR");
    return {};
}

Result<> check_not_after(const std::optional<std::int64_t> &not_after) {
    if (!not_after || (*not_after >= 0 && *not_after <= kLastUtc)) return {};
    return fail(ErrorCode::kInvalid, "a boot policy's 'not_after' is a time in the years 1970 to 9999");
}

}  // namespace

TPM2B_NONCE policy_ref(std::string_view group, std::uint32_t generation) {
    return digest_of(BigEndian(kPolicyRefPrefix).number(generation, 4).raw(bytes_of(group)).bytes());
}

TPM2B_DIGEST pcr_policy(const PcrSelection &pcrs, const PcrValues &values) {
    return PolicyDigest().pcrs(pcrs, values).value();
}

Result<> check(const BootApproval &approval) {
    VTPM_TRY(check_group(kBootPolicy, approval.group));
    VTPM_TRY(check_pcrs(approval.pcrs));
    VTPM_TRY(check_values(kBootPolicy, approval.pcrs, approval.values));
    VTPM_TRY(check_generation(kBootPolicy, approval.generation));
    return check_not_after(approval.not_after);
}

Result<BootPolicy> BootPolicy::sign(ByteView private_key, BootApproval approval) {
    VTPM_TRY(check(approval));
    VTPM_ASSIGN(const SigningKey key, SigningKey::from_pem(private_key));
    BootPolicy policy(std::move(approval));
    policy.approver_ = key.approver().fingerprint();
    VTPM_ASSIGN(policy.tpm_signature_, key.sign(policy.tpm_statement()));
    VTPM_ASSIGN(policy.document_signature_, key.sign(policy.document()));
    return policy;
}

Result<> BootPolicy::verify(const ApproverKey &approver, std::int64_t now) const {
    const auto refused = [&](const std::string &why) {
        return fail(ErrorCode::kRefused, "the boot policy for group '{}' {}", approval_.group, why);
    };
    if (approver.fingerprint() != approver_)
        return refused(fmt::format("is signed by {}, the approver is {}", approver_, approver.fingerprint()));
    if (!approver.verify(document(), document_signature_))
        return refused("was changed after it was signed: its 'document_signature' is not the approver's");
    if (!approver.verify(tpm_statement(), tpm_signature_))
        return refused("is of no use to a TPM: its 'tpm_signature' is not the approver's");
    if (approval_.not_after && now > *approval_.not_after)
        return refused(fmt::format("has expired: it was good until {}", to_utc(*approval_.not_after)));
    return {};
}

Result<ApprovedBoot> BootPolicy::for_tpm(const ApproverKey &approver) const {
    VTPM_ASSIGN(const TPMT_SIGNATURE signature, approver.tpm_signature(tpm_signature_));
    return ApprovedBoot{approval_.pcrs, pcr_policy(approval_.pcrs, approval_.values), digest_of(tpm_statement()),
                        signature};
}

std::string BootPolicy::id() const { return document_id(document()); }

// What is hashed into aHash. Its 64 bytes are shorter than any document(): neither signature passes for the other.
Bytes BootPolicy::tpm_statement() const {
    const TPM2B_DIGEST policy = pcr_policy(approval_.pcrs, approval_.values);
    const TPM2B_NONCE ref = policy_ref(approval_.group, approval_.generation);
    return BigEndian().raw({policy.buffer, policy.size}).raw({ref.buffer, ref.size}).bytes();
}

// Everything but its own signature, in one form for one content.
Bytes BootPolicy::document() const {
    BigEndian not_after;
    if (approval_.not_after) not_after.number(static_cast<std::uint64_t>(*approval_.not_after), 8);
    BigEndian document(kDocumentPrefix);
    document.field(bytes_of(approval_.group)).field(marshalled(approval_.pcrs)).field(joined(approval_.values));
    document.field(not_after.bytes()).number(approval_.generation, 4);
    document.field(bytes_of(approver_)).field(tpm_signature_);
    return document.bytes();
}

}  // namespace vtpm
