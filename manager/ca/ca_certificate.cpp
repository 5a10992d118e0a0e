// SPDX-License-Identifier: Apache-2.0
#include "manager/ca/ca_certificate.hpp"

#include "manager/crypto/x509.hpp"

namespace vtpm {
namespace {

// RFC 5280, 4.2.1. "hash" is SHA-1 of the key, its method (1): a name, not a protection, and what those CAs that do
// not copy it from a request come to themselves.
constexpr ExtensionText kExtensions[] = {
    {NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
    {NID_key_usage, "critical,keyCertSign"},
    {NID_subject_key_identifier, "hash"},
};

}  // namespace

Result<Bytes> self_signed_ca(const std::string &common_name, const CaKey &key, std::int64_t now) {
    VTPM_ASSIGN(const DistinguishedName name, name_of(common_name));
    VTPM_ASSIGN(const Certificate certificate, new_certificate(now));
    X509 *const ca = certificate.get();
    if (X509_set_subject_name(ca, name.get()) != 1 || X509_set_issuer_name(ca, name.get()) != 1 ||
        X509_set_pubkey(ca, key.public_key.get()) != 1 || !add_extensions(ca, ca, kExtensions))
        return openssl_failed("making a CA's certificate");
    return sign_certificate(ca, key);
}

Result<Bytes> ca_request(const std::string &common_name, const CaKey &key) {
    VTPM_ASSIGN(const DistinguishedName name, name_of(common_name));
    const CertificateRequest request(X509_REQ_new());
    if (!request || X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) != 1 ||
        X509_REQ_set_subject_name(request.get(), name.get()) != 1 ||
        X509_REQ_set_pubkey(request.get(), key.public_key.get()) != 1 || !add_extensions(request.get(), kExtensions))
        return openssl_failed("making a request for a certificate");
    return sign_request(request.get(), key);
}

}  // namespace vtpm
