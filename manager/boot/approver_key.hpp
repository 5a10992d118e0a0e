// SPDX-License-Identifier: Apache-2.0
// The public key of a group's approver, who signs the boot configurations of hosts that may open the group
// (boot_policy.hpp): RSA with 2048 or 3072 bits and the exponent 65537, or ECDSA on P-256. A TPM may lack RSA-3072, and
// says so at TPM2_LoadExternal. Signatures are RSASSA-PKCS1-v1_5 or ECDSA (DER), over SHA-256.
#pragma once

#include <openssl/types.h>
#include <tss2/tss2_tpm2_types.h>

#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "manager/tpm/approver.hpp"

namespace vtpm {

constexpr std::size_t kMaxSignature = 384;  // bytes: RSA-3072

class ApproverKey {
public:
    // One PEM "PUBLIC KEY" (SubjectPublicKeyInfo) and nothing else. kInvalid says what it is instead.
    static Result<ApproverKey> from_pem(std::string_view text);
    // What public_area() gave, back from the store. kRefused if it is anything else.
    static Result<ApproverKey> from_public_area(ByteView public_area);
    // The public half of `key`, whatever OpenSSL read it from. kInvalid if approvers do not use such keys.
    static Result<ApproverKey> from_openssl(const EVP_PKEY *key);

    // For the TPM: a key that verifies and does nothing else, its Name (TCG Part 1, 16), and `policy_ref`.
    [[nodiscard]] Approver for_tpm(const TPM2B_NONCE &policy_ref) const { return {public_, name_, policy_ref}; }
    // For the store: the marshalled TPM2B_PUBLIC.
    [[nodiscard]] const Bytes &public_area() const { return public_area_; }
    // "SHA256:" and 64 hexadecimal digits.
    [[nodiscard]] const std::string &fingerprint() const { return fingerprint_; }
    [[nodiscard]] Result<std::string> to_pem() const;

    // Whether `signature` is this key's, over the SHA-256 digest of `message`.
    [[nodiscard]] bool verify(ByteView message, ByteView signature) const;
    // For TPM2_VerifySignature. kInvalid if it cannot be a signature of such a key.
    [[nodiscard]] Result<TPMT_SIGNATURE> tpm_signature(ByteView signature) const;

private:
    ApproverKey() = default;
    static Result<ApproverKey> from_area(const TPMT_PUBLIC &area);

    TPM2B_PUBLIC public_{};
    TPM2B_NAME name_{};
    Bytes public_area_;
    std::string fingerprint_;
    std::shared_ptr<EVP_PKEY> key_;  // never changed, so copies share it
};

}  // namespace vtpm
