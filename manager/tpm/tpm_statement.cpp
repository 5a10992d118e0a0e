// SPDX-License-Identifier: Apache-2.0
#include "manager/tpm/tpm_statement.hpp"

#include <tss2/tss2_mu.h>

#include <algorithm>

#include "manager/crypto/openssl.hpp"
#include "manager/tpm/tpm_signature.hpp"

namespace vtpm {
namespace {

template <typename T, typename Unmarshal>
Result<T> whole(ByteView bytes, Unmarshal unmarshal, const char *what) {
    T value{};
    std::size_t consumed = 0;
    if (bytes.empty() || unmarshal(bytes.data(), bytes.size(), &consumed, &value) != TSS2_RC_SUCCESS ||
        consumed != bytes.size())
        return fail(ErrorCode::kRefused, "it is not {}", what);
    return value;
}

Result<> check_signature(const TpmStatement &statement, EVP_PKEY *key) {
    VTPM_ASSIGN(const auto parsed, whole<TPMT_SIGNATURE>(statement.signature, Tss2_MU_TPMT_SIGNATURE_Unmarshal,
                                                         "signed by a TPM's signature"));
    VTPM_ASSIGN(const Bytes signature, ecdsa_of(parsed));
    const DigestContext context(EVP_MD_CTX_new());
    const bool good = context &&
                      EVP_DigestVerifyInit_ex(context.get(), nullptr, "SHA256", nullptr, nullptr, key, nullptr) == 1 &&
                      EVP_DigestVerify(context.get(), signature.data(), signature.size(), statement.attested.data(),
                                       statement.attested.size()) == 1;
    if (!good) return fail(ErrorCode::kRefused, "the attestation key did not sign it");
    return {};
}

}  // namespace

// A restricted key signs nothing that begins with TPM_GENERATED_VALUE but what the TPM made.
Result<TPMS_ATTEST> verified(const TpmStatement &statement, EVP_PKEY *key, TPM2_ST type, ByteView extra_data) {
    VTPM_TRY(check_signature(statement, key));
    VTPM_ASSIGN(const auto attest,
                whole<TPMS_ATTEST>(statement.attested, Tss2_MU_TPMS_ATTEST_Unmarshal, "a TPM's attestation structure"));
    if (attest.magic != TPM2_GENERATED_VALUE) return fail(ErrorCode::kRefused, "no TPM made it");
    if (attest.type != type) return fail(ErrorCode::kRefused, "it is an attestation of another kind");
    if (!std::ranges::equal(ByteView(attest.extraData.buffer, attest.extraData.size), extra_data))
        return fail(ErrorCode::kRefused, "it was made for another nonce, or for something else than it stands beside");
    return attest;
}

}  // namespace vtpm
