// SPDX-License-Identifier: Apache-2.0
#include "manager/crypto/x509.hpp"

#include <openssl/sha.h>

#include <algorithm>
#include <array>

#include "manager/crypto/der.hpp"

namespace vtpm {
namespace {

constexpr int kSerialBits = 159;      // a positive number of 20 octets (RFC 5280, 4.1.2.2)
constexpr std::int64_t kSlack = 300;  // seconds that a verifier's clock may be behind
constexpr const char *kNoEnd = "99991231235959Z";
constexpr std::uint8_t kEcdsaWithSha256[] = {0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2};  // RFC 5758, 3.2

bool set_serial(X509 *certificate) {
    const BigNumber serial(BN_new());
    return serial && BN_rand(serial.get(), kSerialBits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
           BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(certificate)) != nullptr;
}

// SIGNED{} of X.509, 6.2.1. OpenSSL signs with keys that it has itself, or with a provider's, which is a module to
// load: for one digest it is simpler to put the three parts together.
Result<Bytes> sign(ByteView to_be_signed, const CaKey &key) {
    require(!to_be_signed.empty(), "what is complete has a DER form");
    std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest{};
    SHA256(to_be_signed.data(), to_be_signed.size(), digest.data());
    VTPM_ASSIGN(const Bytes signature, key.sign(digest));
    constexpr std::uint8_t kUnusedBits[] = {0};
    return der_element(V_ASN1_SEQUENCE,
                       {to_be_signed, kEcdsaWithSha256, der_element(V_ASN1_BIT_STRING, {kUnusedBits, signature})});
}

struct FreeExtensions {
    void operator()(STACK_OF(X509_EXTENSION) * all) const { sk_X509_EXTENSION_pop_free(all, X509_EXTENSION_free); }
};

tl::unexpected<Error> damaged() { return fail(ErrorCode::kInvalid, "no certificate, or a damaged one"); }

tl::unexpected<Error> wrong_signature() {
    return fail(ErrorCode::kSystem, "a signature that was asked of the CA's key is not of that key");
}

}  // namespace

Result<DistinguishedName> name_of(const std::string &common_name) {
    DistinguishedName name(X509_NAME_new());
    const auto *text = reinterpret_cast<const unsigned char *>(common_name.data());  // char as bytes
    if (!name || X509_NAME_add_entry_by_NID(name.get(), NID_commonName, MBSTRING_UTF8, text,
                                            static_cast<int>(common_name.size()), -1, 0) != 1)
        return fail(ErrorCode::kInvalid, "a common name has 1 to 64 characters, in UTF-8");
    return name;
}

Result<Certificate> new_certificate(std::int64_t now) {
    Certificate certificate(X509_new());
    if (!certificate || X509_set_version(certificate.get(), X509_VERSION_3) != 1 || !set_serial(certificate.get()) ||
        ASN1_TIME_set(X509_getm_notBefore(certificate.get()), now - kSlack) == nullptr ||
        ASN1_TIME_set_string(X509_getm_notAfter(certificate.get()), kNoEnd) != 1)
        return openssl_failed("beginning a certificate");
    return certificate;
}

bool add_extensions(X509 *certificate, X509 *issuer, std::span<const ExtensionText> extensions) {
    X509V3_CTX context{};
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    return std::ranges::all_of(extensions, [&](const ExtensionText &text) {
        const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, text.nid, text.value));
        return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
    });
}

bool add_extensions(X509_REQ *request, std::span<const ExtensionText> extensions) {
    X509V3_CTX context{};
    X509V3_set_ctx(&context, nullptr, nullptr, request, nullptr, 0);
    const std::unique_ptr<STACK_OF(X509_EXTENSION), FreeExtensions> all(sk_X509_EXTENSION_new_null());
    return all &&
           std::ranges::all_of(extensions,
                               [&](const ExtensionText &text) {
                                   Extension extension(X509V3_EXT_conf_nid(nullptr, &context, text.nid, text.value));
                                   return extension && sk_X509_EXTENSION_push(all.get(), extension.get()) > 0 &&
                                          extension.release() != nullptr;
                               }) &&
           X509_REQ_add_extensions(request, all.get()) == 1;
}

Result<Certificate> certificate_from(ByteView der) {
    VTPM_ASSIGN(auto certificates, certificates_from(der));
    if (certificates.size() != 1) return damaged();
    return std::move(certificates.front());
}

Result<std::vector<Certificate>> certificates_from(ByteView der) {
    std::vector<Certificate> certificates;
    do {
        const std::uint8_t *at = der.data();
        Certificate certificate(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
        const Bytes read = certificate ? der_of(i2d_X509, certificate.get()) : Bytes();
        if (read.empty() || read.size() > der.size() || !std::ranges::equal(read, der.first(read.size())))
            return damaged();
        certificates.push_back(std::move(certificate));
        der = der.subspan(read.size());
    } while (!der.empty());
    return certificates;
}

std::string one_line(const X509_NAME *name) {
    const Bio bio(BIO_new(BIO_s_mem()));
    if (!bio || X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253) < 0) return "unknown";
    char *text = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &text);
    return {text, static_cast<std::size_t>(size)};
}

// What is verified is the very DER form that is returned: a TPM that was exchanged or erred gives no bad certificate.
Result<Bytes> sign_certificate(X509 *certificate, const CaKey &key) {
    // The certificate names the algorithm twice, once under the signature; OpenSSL 3.0 sets neither but in signing.
    auto *algorithm = const_cast<X509_ALGOR *>(X509_get0_tbs_sigalg(certificate));
    if (X509_ALGOR_set0(algorithm, OBJ_nid2obj(NID_ecdsa_with_SHA256), V_ASN1_UNDEF, nullptr) != 1)
        return openssl_failed("naming the signature's algorithm");
    VTPM_ASSIGN(Bytes der, sign(der_of(i2d_re_X509_tbs, certificate), key));
    const auto made = certificate_from(der);
    if (!made || X509_verify(made->get(), key.public_key.get()) != 1) return wrong_signature();
    return der;
}

Result<Bytes> sign_request(X509_REQ *request, const CaKey &key) {
    VTPM_ASSIGN(Bytes der, sign(der_of(i2d_re_X509_REQ_tbs, request), key));
    const std::uint8_t *at = der.data();
    const CertificateRequest made(d2i_X509_REQ(nullptr, &at, static_cast<long>(der.size())));
    if (!made || X509_REQ_verify(made.get(), key.public_key.get()) != 1) return wrong_signature();
    return der;
}

}  // namespace vtpm
