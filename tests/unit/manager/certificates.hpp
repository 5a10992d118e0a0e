// SPDX-License-Identifier: Apache-2.0
// A CA whose key OpenSSL has, certificates as OpenSSL reads them, and its verdict on a chain of them.
#pragma once

#include <openssl/x509_vfy.h>

#include <string>
#include <vector>

#include "expect.hpp"
#include "manager/crypto/der.hpp"
#include "manager/crypto/encoding.hpp"
#include "manager/crypto/x509.hpp"
#include "openssl_keys.hpp"

constexpr std::int64_t kNow = 1'800'000'000;  // 2027-01-15T08:00:00Z
constexpr const char *kCaName = "vTPMs of host-7";

inline vtpm::EvpKey shared(EVP_PKEY *key) {
    EVP_PKEY_up_ref(key);
    return vtpm::EvpKey(key);
}

inline vtpm::CaKey ca_key(EVP_PKEY *key = p256()) {
    return {shared(key), [key](vtpm::ByteView digest) { return ecdsa(key, digest); }};
}

// A key whose signatures are what `sign` makes of the right ones.
template <typename Change>
vtpm::CaKey changed_ca_key(Change change) {
    return {shared(p256()),
            [change](vtpm::ByteView digest) -> vtpm::Result<vtpm::Bytes> { return ecdsa(p256(), digest).map(change); }};
}

inline vtpm::Certificate parsed(const vtpm::Bytes &der) { return expect(vtpm::certificate_from(der)); }

inline std::string subject_of(X509 *certificate) {
    return vtpm::to_hex(vtpm::der_of(i2d_X509_NAME, X509_get_subject_name(certificate)));
}
inline std::string issuer_of(X509 *certificate) {
    return vtpm::to_hex(vtpm::der_of(i2d_X509_NAME, X509_get_issuer_name(certificate)));
}
// What subject_of() gives for one common name.
inline std::string common_name(const std::string &name) {
    return vtpm::to_hex(vtpm::der_of(i2d_X509_NAME, expect(vtpm::name_of(name)).get()));
}

// "critical " if it is, and the content in hexadecimal; "none".
inline std::string text_of(X509_EXTENSION *extension) {
    if (extension == nullptr) return "none";
    const ASN1_OCTET_STRING *content = X509_EXTENSION_get_data(extension);
    return (X509_EXTENSION_get_critical(extension) == 1 ? "critical " : "") +
           vtpm::to_hex({content->data, static_cast<std::size_t>(content->length)});
}
inline std::string extension(X509 *certificate, int nid) {
    return text_of(X509_get_ext(certificate, X509_get_ext_by_NID(certificate, nid, -1)));
}

// SHA-1 over the key as SubjectPublicKeyInfo has it.
inline std::string key_identifier(X509 *certificate) {
    vtpm::Bytes digest(20);
    X509_pubkey_digest(certificate, EVP_sha1(), digest.data(), nullptr);
    return vtpm::to_hex(digest);
}

// X509_V_OK, or what OpenSSL finds wrong at its strictest, with the first of `chain` as the certificate in question
// and only `root` trusted.
inline int verdict(const std::vector<vtpm::Bytes> &chain, const vtpm::Bytes &root, std::int64_t now = kNow) {
    const std::unique_ptr<X509_STORE, vtpm::FreeWith<X509_STORE_free>> store(X509_STORE_new());
    const std::unique_ptr<X509_STORE_CTX, vtpm::FreeWith<X509_STORE_CTX_free>> context(X509_STORE_CTX_new());
    const vtpm::Certificate trusted = parsed(root);
    X509_STORE_add_cert(store.get(), trusted.get());
    std::vector<vtpm::Certificate> certificates;
    STACK_OF(X509) *others = sk_X509_new_null();
    for (const vtpm::Bytes &der : chain) {
        certificates.push_back(parsed(der));
        if (certificates.size() > 1) sk_X509_push(others, certificates.back().get());
    }
    X509_STORE_CTX_init(context.get(), store.get(), certificates.front().get(), others);
    X509_STORE_CTX_set_purpose(context.get(), X509_PURPOSE_ANY);
    X509_STORE_CTX_set_time(context.get(), X509_V_FLAG_X509_STRICT | X509_V_FLAG_CHECK_SS_SIGNATURE, now);
    X509_STORE_CTX_set_flags(context.get(), X509_V_FLAG_X509_STRICT | X509_V_FLAG_CHECK_SS_SIGNATURE);
    const int verified = X509_verify_cert(context.get());
    const int error = X509_STORE_CTX_get_error(context.get());
    sk_X509_free(others);
    if ((verified == 1) != (error == X509_V_OK)) throw std::runtime_error("OpenSSL contradicts itself");
    return error;
}

// What another CA, with the name "root" and an RSA key, is asked to certify; each field may be wrong.
struct Issue {
    std::string subject = kCaName;
    std::string issuer = "root";
    EVP_PKEY *key = p256();
    EVP_PKEY *signer = rsa_2048();
    const EVP_MD *digest = EVP_sha256();
    const char *constraints = "critical,CA:TRUE,pathlen:0";
    const char *usage = "critical,keyCertSign";
    const char *identifier = "hash";
    const char *critical = nullptr;  // the OID of one more extension
    vtpm::ExtensionText more{0, nullptr};
    vtpm::Bytes authority{};  // the issuer's certificate, if that is not "root"
    std::int64_t from = kNow - 3600;
    std::int64_t to = kNow + 3600;
};

vtpm::Bytes root_certificate();

inline vtpm::Bytes issued(const Issue &issue) {
    const vtpm::Certificate certificate = expect(vtpm::new_certificate(kNow));
    X509 *const made = certificate.get();
    X509_set_subject_name(made, expect(vtpm::name_of(issue.subject)).get());
    X509_set_issuer_name(made, expect(vtpm::name_of(issue.issuer)).get());
    X509_set_pubkey(made, issue.key);
    ASN1_TIME_set(X509_getm_notBefore(made), issue.from);
    ASN1_TIME_set(X509_getm_notAfter(made), issue.to);
    for (const auto &[nid, value] :
         {std::pair(NID_basic_constraints, issue.constraints), std::pair(NID_key_usage, issue.usage),
          std::pair(NID_subject_key_identifier, issue.identifier)}) {
        const vtpm::ExtensionText text[] = {{nid, value}};
        if (value != nullptr && !vtpm::add_extensions(made, made, text)) throw std::runtime_error("no such extension");
    }
    if ((issue.issuer == "root" && issue.subject != "root") || !issue.authority.empty()) {
        const vtpm::ExtensionText text[] = {{NID_authority_key_identifier, "keyid:always"}};
        const vtpm::Certificate issuer = parsed(issue.authority.empty() ? root_certificate() : issue.authority);
        vtpm::add_extensions(made, issuer.get(), text);
    }
    // dirName's section, for name constraints.
    if (issue.more.value != nullptr) {
        X509V3_CTX context{};
        const std::unique_ptr<CONF, vtpm::FreeWith<NCONF_free>> sections(NCONF_new(nullptr));
        const vtpm::Bio text(BIO_new_mem_buf("[subtree]\nCN=somebody else\n", -1));
        long line = 0;
        NCONF_load_bio(sections.get(), text.get(), &line);
        X509V3_set_ctx(&context, made, made, nullptr, nullptr, 0);
        X509V3_set_nconf(&context, sections.get());
        const vtpm::Extension extension(
            X509V3_EXT_nconf_nid(sections.get(), &context, issue.more.nid, issue.more.value));
        if (!extension || X509_add_ext(made, extension.get(), -1) != 1) throw std::runtime_error("no such extension");
    }
    if (issue.critical != nullptr) {
        const vtpm::Asn1Object object(OBJ_txt2obj(issue.critical, 1));
        const vtpm::Asn1OctetString content(ASN1_OCTET_STRING_new());
        const vtpm::Extension extension(X509_EXTENSION_create_by_OBJ(nullptr, object.get(), 1, content.get()));
        X509_add_ext(made, extension.get(), -1);
    }
    if (X509_sign(made, issue.signer, issue.digest) == 0) throw std::runtime_error("OpenSSL does not sign");
    return vtpm::der_of(i2d_X509, made);
}

// The certificate of that other CA.
inline vtpm::Bytes root_certificate() {
    Issue root;
    root.subject = "root";
    root.key = rsa_2048();
    root.constraints = "critical,CA:TRUE";
    return issued(root);
}
