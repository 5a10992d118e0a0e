// SPDX-License-Identifier: Apache-2.0
#include "manager/ca/signed_ca.hpp"

#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "manager/ca/der.hpp"
#include "manager/ca/x509.hpp"
#include "manager/policy/pem.hpp"

namespace vtpm {
namespace {

constexpr int kSecurityBits = 112;  // what SHA-1 and MD5 signatures do not have (NIST SP 800-131A)

tl::unexpected<Error> refused(std::string_view what) {
    return fail(ErrorCode::kInvalid, "this is no certificate for this host's CA: {}", what);
}

// Some CAs write the certificate as text before its PEM block.
Result<Certificate> read_pem(std::string_view text) {
    if (text.size() > kMaxPem) return refused(fmt::format("a file of {} bytes", text.size()));
    const std::string_view label = pem_label(text);
    if (label.empty()) return refused("no PEM file");
    if (label != "CERTIFICATE") return refused(fmt::format("a PEM file of '{}'", label));
    if (text.find(kPemBegin) != text.rfind(kPemBegin)) return refused("a file of several PEM blocks");
    const auto block = first_pem_block(text);
    if (!block || block->has_headers) return refused("a damaged PEM file");
    auto certificate = certificate_from(block->der);
    if (!certificate) return refused("a damaged PEM file");
    return certificate;
}

// Bytes are compared: verifiers may compare a subject and an issuer so (RFC 5280, 4.1.2.6).
Result<> check_subject(X509 *certificate, const X509_NAME *name, const EVP_PKEY *key) {
    if (der_of(i2d_X509_PUBKEY, X509_get_X509_PUBKEY(certificate)) != der_of(i2d_PUBKEY, key))
        return refused("it is for another key");
    const Bytes subject = der_of(i2d_X509_NAME, name);
    if (der_of(i2d_X509_NAME, X509_get_subject_name(certificate)) != subject)
        return refused("its subject is not the request's, letter for letter");
    if (der_of(i2d_X509_NAME, X509_get_issuer_name(certificate)) == subject) return refused("it is self-signed");
    return {};
}

// Every path length allows what the CA signs: nothing there is a CA.
Result<> check_authority(X509 *certificate) {
    const std::uint32_t flags = X509_get_extension_flags(certificate);
    if ((flags & EXFLAG_INVALID) != 0) return refused("it has a damaged extension");
    if ((flags & EXFLAG_CRITICAL) != 0) return refused("it has a critical extension that OpenSSL does not know");
    if ((flags & EXFLAG_CA) == 0)
        return refused("it is not for a CA: the other CA has to copy the request's extensions");
    if ((flags & EXFLAG_KUSAGE) == 0 || (X509_get_key_usage(certificate) & KU_KEY_CERT_SIGN) == 0)
        return refused("it does not allow signing certificates (keyUsage: keyCertSign)");
    return {};
}

// Certificates that were issued so far name the CA by it.
Result<> check_identifier(X509 *certificate) {
    std::array<std::uint8_t, SHA_DIGEST_LENGTH> digest{};
    const bool digested = X509_pubkey_digest(certificate, EVP_sha1(), digest.data(), nullptr) == 1;
    const ASN1_OCTET_STRING *identifier = X509_get0_subject_key_id(certificate);
    if (!digested || identifier == nullptr ||
        !std::ranges::equal(digest, ByteView(identifier->data, static_cast<std::size_t>(identifier->length))))
        return refused("its subjectKeyIdentifier is not the request's");
    return {};
}

Result<> check_validity(const X509 *certificate, std::int64_t now) {
    const int from = ASN1_TIME_cmp_time_t(X509_get0_notBefore(certificate), now);
    const int to = ASN1_TIME_cmp_time_t(X509_get0_notAfter(certificate), now);
    if (from != -1 && from != 0) return refused("it is not valid yet");
    if (to != 0 && to != 1) return refused("it has expired");
    return {};
}

Result<> check_algorithm(X509 *certificate) {
    int bits = 0;
    if (X509_get_signature_info(certificate, nullptr, nullptr, &bits, nullptr) != 1)
        return refused("it is signed with an unknown algorithm");
    if (bits < kSecurityBits) return refused("it is signed with a weak algorithm");
    return {};
}

}  // namespace

Result<Bytes> signed_ca_from_pem(ByteView pem, const std::string &common_name, const EVP_PKEY *key, std::int64_t now) {
    VTPM_ASSIGN(const DistinguishedName name, name_of(common_name));
    // Bytes as text; char and unsigned char may alias.
    VTPM_ASSIGN(const Certificate certificate, read_pem({reinterpret_cast<const char *>(pem.data()), pem.size()}));
    VTPM_TRY(check_subject(certificate.get(), name.get(), key));
    VTPM_TRY(check_authority(certificate.get()));
    VTPM_TRY(check_identifier(certificate.get()));
    VTPM_TRY(check_validity(certificate.get(), now));
    VTPM_TRY(check_algorithm(certificate.get()));
    return der_of(i2d_X509, certificate.get());
}

}  // namespace vtpm
