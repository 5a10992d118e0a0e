// SPDX-License-Identifier: Apache-2.0
// What all that a CA signs has in common, and ownership of OpenSSL's structures for it.
#pragma once

#include <openssl/x509v3.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "manager/crypto/openssl.hpp"

namespace vtpm {

using Asn1Integer = std::unique_ptr<ASN1_INTEGER, FreeWith<ASN1_INTEGER_free>>;
using Asn1Object = std::unique_ptr<ASN1_OBJECT, FreeWith<ASN1_OBJECT_free>>;
using Asn1OctetString = std::unique_ptr<ASN1_OCTET_STRING, FreeWith<ASN1_OCTET_STRING_free>>;
using Certificate = std::unique_ptr<X509, FreeWith<X509_free>>;
using CertificateRequest = std::unique_ptr<X509_REQ, FreeWith<X509_REQ_free>>;
using DistinguishedName = std::unique_ptr<X509_NAME, FreeWith<X509_NAME_free>>;
using KeyUsages = std::unique_ptr<EXTENDED_KEY_USAGE, FreeWith<EXTENDED_KEY_USAGE_free>>;
using Extension = std::unique_ptr<X509_EXTENSION, FreeWith<X509_EXTENSION_free>>;

// A CA's key as certificates need it: ECDSA on P-256 with SHA-256, whose private half may be in a TPM.
struct CaKey {
    EvpKey public_key;
    // Of a SHA-256 digest, as a DER ECDSA-Sig-Value (RFC 3279, 2.2.3).
    std::function<Result<Bytes>(ByteView digest)> sign;
};

// One extension as x509v3_config(5) writes it.
struct ExtensionText {
    int nid;
    const char *value;
};

// A common name and nothing else, in UTF-8. kInvalid unless it has 1 to 64 characters (X.520, ub-common-name).
Result<DistinguishedName> name_of(const std::string &common_name);

// Version 3, a random serial number, valid from a little before `now` (seconds since 1970) without end
// (RFC 5280, 4.1.2.5). What it certifies, and for whom, is yet to come.
Result<Certificate> new_certificate(std::int64_t now);

// False if OpenSSL does not take one. `issuer` may be the certificate itself.
bool add_extensions(X509 *certificate, X509 *issuer, std::span<const ExtensionText> extensions);
bool add_extensions(X509_REQ *request, std::span<const ExtensionText> extensions);

// From exactly these bytes. kInvalid if they are no DER certificate.
Result<Certificate> certificate_from(ByteView der);

// One after the other, at least one. kInvalid as above.
Result<std::vector<Certificate>> certificates_from(ByteView der);

// For people, as RFC 2253 writes it.
std::string one_line(const X509_NAME *name);

// The DER form, signed. The error of `key.sign`; kSystem if what that gave is not the key's signature.
Result<Bytes> sign_certificate(X509 *certificate, const CaKey &key);
Result<Bytes> sign_request(X509_REQ *request, const CaKey &key);

}  // namespace vtpm
