// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/approver_key.hpp"

#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <tss2/tss2_mu.h>

#include <algorithm>
#include <array>

#include "manager/crypto/openssl.hpp"
#include "manager/crypto/pem.hpp"
#include "manager/tpm/public_area.hpp"

namespace vtpm {
namespace {

// Hexadecimal and over the DER form, so that an administrator compares it with what his own tools say of his file:
// openssl pkey -pubin -in FILE -outform DER | sha256sum
std::string fingerprint_of(EVP_PKEY *key) {
    std::uint8_t *der = nullptr;
    const int size = i2d_PUBKEY(key, &der);
    require(size > 0, "a public key has a DER form");
    std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest{};
    SHA256(der, static_cast<std::size_t>(size), digest.data());
    OPENSSL_free(der);
    return fmt::format("SHA256:{:02x}", fmt::join(digest, ""));
}

std::string without_space(std::string_view text) {
    std::string rest;
    std::ranges::copy_if(text, std::back_inserter(rest), [](char c) { return c != '\n' && c != '\r' && c != ' '; });
    return rest;
}

Result<EvpKey> read_public_key(std::string_view text) {
    if (text.size() > kMaxPem) return not_accepted(fmt::format("a file of {} bytes, too large for a key", text.size()));
    const std::string_view label = pem_label(text);
    if (label.empty()) return not_accepted("no PEM file");
    if (label != "PUBLIC KEY")
        return not_accepted(fmt::format("a PEM file of '{}', not of 'PUBLIC KEY' (openssl pkey -pubout)", label));
    const Bio bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
    EvpKey key(bio ? PEM_read_bio_PUBKEY(bio.get(), nullptr, no_passphrase, nullptr) : nullptr);
    if (!key) return not_accepted("a damaged public key, or one of an unknown kind");
    return key;
}

bool fill_rsa(TPMT_SIGNATURE &out, ByteView signature, std::size_t size) {
    out.sigAlg = TPM2_ALG_RSASSA;
    TPMS_SIGNATURE_RSA &rsa = out.signature.rsassa;
    rsa.hash = TPM2_ALG_SHA256;
    rsa.sig.size = static_cast<std::uint16_t>(size);
    if (signature.size() != size) return false;
    std::ranges::copy(signature, rsa.sig.buffer);
    return true;
}

bool fill_ecdsa(TPMT_SIGNATURE &out, ByteView signature) {
    out.sigAlg = TPM2_ALG_ECDSA;
    TPMS_SIGNATURE_ECC &ecdsa = out.signature.ecdsa;
    ecdsa.hash = TPM2_ALG_SHA256;
    ecdsa.signatureR.size = kCoordinate;
    ecdsa.signatureS.size = kCoordinate;
    const std::uint8_t *at = signature.data();
    const EcdsaSignature parsed(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(signature.size())));
    return parsed && at == signature.data() + signature.size() &&
           BN_bn2binpad(ECDSA_SIG_get0_r(parsed.get()), ecdsa.signatureR.buffer, kCoordinate) >= 0 &&
           BN_bn2binpad(ECDSA_SIG_get0_s(parsed.get()), ecdsa.signatureS.buffer, kCoordinate) >= 0;
}

}  // namespace

// The key is compared with its one usual form as a whole: a second key, a header, a compressed point or a curve
// spelt out in parameters would each give a fingerprint that is not the file's.
Result<ApproverKey> ApproverKey::from_pem(std::string_view text) {
    VTPM_ASSIGN(const EvpKey parsed, read_public_key(text));
    VTPM_ASSIGN(ApproverKey key, from_openssl(parsed.get()));
    VTPM_ASSIGN(const std::string usual, key.to_pem());
    if (without_space(text) != without_space(usual))
        return fail(ErrorCode::kInvalid,
                    "the file holds something besides one public key in its usual form: another key, text, a "
                    "compressed point or a curve's parameters");
    return key;
}

Result<ApproverKey> ApproverKey::from_openssl(const EVP_PKEY *key) { return public_area_of(key).and_then(from_area); }

// Only the key's own numbers are taken from the store; with them, the area must be the one that we would make.
Result<ApproverKey> ApproverKey::from_public_area(ByteView public_area) {
    const auto damaged = fail(ErrorCode::kRefused, "the approver's key in the store is damaged");
    TPM2B_PUBLIC stored{};
    std::size_t consumed = 0;
    if (public_area.empty() ||
        Tss2_MU_TPM2B_PUBLIC_Unmarshal(public_area.data(), public_area.size(), &consumed, &stored) != TSS2_RC_SUCCESS)
        return damaged;
    const auto area = public_area_like(stored.publicArea);
    if (!area) return damaged;
    auto key = from_area(*area);
    if (!key || !std::ranges::equal(key->public_area(), public_area)) return damaged;
    return key;
}

Result<ApproverKey> ApproverKey::from_area(const TPMT_PUBLIC &area) {
    ApproverKey key;
    key.key_ = openssl_key(area);
    if (!key.key_) return not_accepted("no valid public key");
    key.public_.publicArea = area;
    const Bytes name = tpm_name(area);
    key.name_.size = static_cast<UINT16>(name.size());
    std::ranges::copy(name, key.name_.name);
    key.public_area_ = marshalled(key.public_);
    key.fingerprint_ = fingerprint_of(key.key_.get());
    return key;
}

Result<std::string> ApproverKey::to_pem() const {
    const Bio bio(BIO_new(BIO_s_mem()));
    if (!bio || PEM_write_bio_PUBKEY(bio.get(), key_.get()) != 1) return openssl_failed("writing a public key");
    char *text = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &text);
    return std::string(text, static_cast<std::size_t>(size));
}

bool ApproverKey::verify(ByteView message, ByteView signature) const {
    const DigestContext context(EVP_MD_CTX_new());
    return context &&
           EVP_DigestVerifyInit_ex(context.get(), nullptr, "SHA256", nullptr, nullptr, key_.get(), nullptr) == 1 &&
           EVP_DigestVerify(context.get(), signature.data(), signature.size(), message.data(), message.size()) == 1;
}

Result<TPMT_SIGNATURE> ApproverKey::tpm_signature(ByteView signature) const {
    TPMT_SIGNATURE out{};
    const TPMT_PUBLIC &area = public_.publicArea;
    const bool good =
        area.type == TPM2_ALG_RSA ? fill_rsa(out, signature, area.unique.rsa.size) : fill_ecdsa(out, signature);
    if (!good) return fail(ErrorCode::kInvalid, "{} bytes that are no signature of this key", signature.size());
    return out;
}

}  // namespace vtpm
