// SPDX-License-Identifier: Apache-2.0
#include "manager/ca/signed_ca.hpp"

#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "manager/ca/ek_certificate.hpp"
#include "manager/crypto/certificate_chain.hpp"
#include "manager/crypto/der.hpp"
#include "manager/crypto/pem.hpp"
#include "manager/crypto/x509.hpp"

namespace vtpm {
namespace {

using PolicyConstraints = std::unique_ptr<POLICY_CONSTRAINTS, FreeWith<POLICY_CONSTRAINTS_free>>;

constexpr std::size_t kMaxFile = 65'536;  // bytes: some CAs write each certificate as text as well
constexpr int kSecurityBits = 112;        // what SHA-1 and MD5 signatures do not have (NIST SP 800-131A)

tl::unexpected<Error> refused(std::string_view what) {
    return fail(ErrorCode::kInvalid, "this is no certificate for this host's CA: {}", what);
}

// Some CAs write the certificate as text before its PEM block.
Result<Certificate> read_block(std::string_view text) {
    const std::string_view label = pem_label(text);
    if (label.empty()) return refused("no PEM file");
    if (label != "CERTIFICATE") return refused(fmt::format("a PEM file of '{}'", label));
    const auto block = first_pem_block(text);
    if (!block || block->has_headers) return refused("a damaged PEM file");
    auto certificate = certificate_from(block->der);
    if (!certificate) return refused("a damaged PEM file");
    return certificate;
}

Result<std::vector<Certificate>> read_pem(std::string_view text) {
    if (text.size() > kMaxFile) return refused(fmt::format("a file of {} bytes", text.size()));
    std::vector<Certificate> certificates;
    do {
        const std::size_t next = text.find(kPemBegin, std::min(text.size(), text.find(kPemBegin)) + kPemBegin.size());
        VTPM_ASSIGN(certificates.emplace_back(), read_block(text.substr(0, next)));
        text.remove_prefix(std::min(next, text.size()));
    } while (!text.empty());
    return certificates;
}

bool is_for(X509 *certificate, const EVP_PKEY *key) {
    return der_of(i2d_X509_PUBKEY, X509_get_X509_PUBKEY(certificate)) == der_of(i2d_PUBKEY, key);
}

// Bytes are compared: verifiers may compare a subject and an issuer so (RFC 5280, 4.1.2.6).
Result<> check_subject(X509 *certificate, const X509_NAME *name, const EVP_PKEY *key) {
    if (!is_for(certificate, key)) return refused("it is for another key");
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

// OpenSSL asks for neither of these unless a verifier has it do so; others always do (RFC 5280, 6.1).
Result<> check_limits(X509 *certificate) {
    const PolicyConstraints policies(
        static_cast<POLICY_CONSTRAINTS *>(X509_get_ext_d2i(certificate, NID_policy_constraints, nullptr, nullptr)));
    if (policies && policies->requireExplicitPolicy != nullptr)
        return refused(
            "it asks for certificate policies (requireExplicitPolicy), which certificates of vTPMs have none of");
    const KeyUsages usages(
        static_cast<EXTENDED_KEY_USAGE *>(X509_get_ext_d2i(certificate, NID_ext_key_usage, nullptr, nullptr)));
    if (!usages) return {};
    const Asn1Object purpose(OBJ_txt2obj(kEkCertificate, 1));
    for (int i = 0; i < sk_ASN1_OBJECT_num(usages.get()); ++i) {
        const ASN1_OBJECT *usage = sk_ASN1_OBJECT_value(usages.get(), i);
        if (OBJ_obj2nid(usage) == NID_anyExtendedKeyUsage || (purpose && OBJ_cmp(usage, purpose.get()) == 0)) return {};
    }
    return refused(
        fmt::format("its extendedKeyUsage leaves out {} (tcg-kp-EKCertificate): have it issued without an "
                    "extendedKeyUsage, or with that",
                    kEkCertificate));
}

bool self_issued(X509 *certificate) {
    return X509_NAME_cmp(X509_get_subject_name(certificate), X509_get_issuer_name(certificate)) == 0;
}

// Each certified by the next one; who signed the last one is not asked. `own` is taken out of `others`, and whatever
// leads on from it.
Result<std::vector<Certificate>> chain_from(Certificate own, std::vector<Certificate> others) {
    std::vector<Certificate> chain;
    chain.push_back(std::move(own));
    while (!self_issued(chain.back().get())) {
        const auto issuer = std::ranges::find_if(others, [&](const Certificate &other) {
            return X509_check_issued(other.get(), chain.back().get()) == X509_V_OK;
        });
        if (issuer == others.end()) break;
        chain.push_back(std::move(*issuer));
        others.erase(issuer);
    }
    if (others.empty()) return chain;
    return refused(fmt::format("the file has a certificate of '{}' too, which the CA's does not lead to: leave it out",
                               one_line(X509_get_subject_name(others.front().get()))));
}

// What the CA's certificate is needed for: that of a vTPM, made by it, is believed by who trusts the end of the chain.
Result<> check_use(const std::vector<Certificate> &chain, const CaKey &key, std::int64_t now) {
    const EndorsementKey any{EkTemplate::kEccP256, {}, EvpKey(EVP_PKEY_dup(key.public_key.get())), {}};
    VTPM_ASSIGN(const Bytes der, ek_certificate(any, Uuid(), {"id:00000000", "any", "id:00000000", 0},
                                                der_of(i2d_X509, chain.front().get()), key, now));
    VTPM_ASSIGN(const Certificate certificate, certificate_from(der));
    std::vector<Certificate> own;
    std::vector<Certificate> between;
    std::vector<Certificate> end;
    const auto share = [](const Certificate &one, std::vector<Certificate> &with) {
        X509_up_ref(one.get());
        with.emplace_back(one.get());
    };
    share(chain.front(), own);
    share(chain.back(), end);
    for (const Certificate &one : chain) share(one, between);
    // Strictly as an attestation is verified; but nobody chooses how old his root is.
    auto verified = verify_chain(certificate.get(), own, now, Strict::kYes);
    if (verified) verified = verify_chain(certificate.get(), end, now, Strict::kNo, between);
    if (verified) return {};
    return refused(fmt::format("certificates that it makes for vTPMs are not valid under it, as OpenSSL says: {}",
                               verified.error().text));
}

}  // namespace

Result<Bytes> signed_ca_from_pem(ByteView pem, const std::string &common_name, const CaKey &key, std::int64_t now) {
    VTPM_ASSIGN(const DistinguishedName name, name_of(common_name));
    // Bytes as text; char and unsigned char may alias.
    VTPM_ASSIGN(auto certificates, read_pem({reinterpret_cast<const char *>(pem.data()), pem.size()}));
    const EVP_PKEY *const public_key = key.public_key.get();
    const auto own = std::ranges::find_if(
        certificates, [&](const Certificate &certificate) { return is_for(certificate.get(), public_key); });
    if (own == certificates.end() && certificates.size() > 1)
        return refused(fmt::format("each of its {} certificates is for another key", certificates.size()));
    std::iter_swap(certificates.begin(), own == certificates.end() ? certificates.begin() : own);
    Certificate first = std::move(certificates.front());
    certificates.erase(certificates.begin());
    VTPM_TRY(check_subject(first.get(), name.get(), public_key));
    VTPM_TRY(check_authority(first.get()));
    VTPM_TRY(check_identifier(first.get()));
    VTPM_TRY(check_validity(first.get(), now));
    VTPM_ASSIGN(const auto chain, chain_from(std::move(first), std::move(certificates)));
    Bytes kept;
    for (const Certificate &certificate : chain) {
        if (self_issued(certificate.get())) break;  // the root: who trusts it has it
        VTPM_TRY(check_algorithm(certificate.get()));
        VTPM_TRY(check_limits(certificate.get()));
        const Bytes der = der_of(i2d_X509, certificate.get());
        kept.insert(kept.end(), der.begin(), der.end());
    }
    if (kept.size() > kMaxCaCertificates)
        return refused(
            fmt::format("{} bytes, with those that lead to its root, are more than the {} that each vTPM has "
                        "room for: have a smaller one issued, or leave certificates between it and the root out",
                        kept.size(), kMaxCaCertificates));
    VTPM_TRY(check_use(chain, key, now));
    return kept;
}

}  // namespace vtpm
