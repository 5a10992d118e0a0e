// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "certificates.hpp"

// What `issuer` revoked, in DER; `signer` should be its key.
inline vtpm::Bytes revocation_list(const vtpm::Bytes &issuer, EVP_PKEY *signer, const std::vector<vtpm::Bytes> &revoked,
                                   std::int64_t next = kNow + 3600, std::int64_t from = kNow - 3600) {
    const std::unique_ptr<X509_CRL, vtpm::FreeWith<X509_CRL_free>> list(X509_CRL_new());
    const std::unique_ptr<ASN1_TIME, vtpm::FreeWith<ASN1_TIME_free>> begin(ASN1_TIME_set(nullptr, from));
    const std::unique_ptr<ASN1_TIME, vtpm::FreeWith<ASN1_TIME_free>> end(ASN1_TIME_set(nullptr, next));
    X509_CRL_set_version(list.get(), X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(parsed(issuer).get()));
    X509_CRL_set1_lastUpdate(list.get(), begin.get());
    X509_CRL_set1_nextUpdate(list.get(), end.get());
    for (const vtpm::Bytes &der : revoked) {
        X509_REVOKED *entry = X509_REVOKED_new();  // the list's from here on
        X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(parsed(der).get()));
        X509_REVOKED_set_revocationDate(entry, begin.get());
        X509_CRL_add0_revoked(list.get(), entry);
    }
    X509_CRL_sort(list.get());
    if (X509_CRL_sign(list.get(), signer, EVP_sha256()) == 0) throw std::runtime_error("OpenSSL does not sign");
    return vtpm::der_of(i2d_X509_CRL, list.get());
}
