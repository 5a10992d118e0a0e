// SPDX-License-Identifier: Apache-2.0
// What another CA is said to have made of our request: a right certificate, of which the input changes bytes (pairs of
// a position, two bytes, and a value), or anything else. What is taken is for our key and our name, and is a CA's.
#include "manager/ca/signed_ca.hpp"

#include <algorithm>

#include "manager/ca/ca_certificate.hpp"
#include "manager/crypto/der.hpp"
#include "manager/crypto/pem.hpp"
#include "manager/crypto/x509.hpp"
#include "tests/unit/manager/openssl_keys.hpp"

namespace vtpm {
namespace {

constexpr std::int64_t kNow = 1'800'000'000;
const std::string kName = "vTPMs of host-7";

const CaKey &our_key() {
    static const CaKey key{EvpKey(EVP_PKEY_dup(p256())), [](ByteView digest) { return ecdsa(p256(), digest); }};
    return key;
}

// Its signature is nobody's, and nobody asks whose it is.
Bytes right_certificate() {
    const auto own = self_signed_ca(kName, our_key(), kNow);
    require(own.has_value(), "a certificate");
    const auto certificate = certificate_from(*own);
    const auto issuer = name_of("another CA");
    require(certificate && issuer && X509_set_issuer_name(certificate->get(), issuer->get()) == 1, "another's");
    require(X509_sign(certificate->get(), p256(), EVP_sha256()) > 0, "another's");
    return der_of(i2d_X509, certificate->get());
}

Result<Bytes> import(std::string_view pem) { return signed_ca_from_pem(bytes_of(pem), kName, our_key(), kNow); }

void check_taken(const Bytes &der) {
    const auto certificate = certificate_from(der);
    require(certificate.has_value(), "what is taken is a certificate");
    require(X509_check_ca(certificate->get()) == 1, "of a CA");
    const EvpKey key(X509_get_pubkey(certificate->get()));
    require(key && EVP_PKEY_eq(key.get(), p256()) == 1, "for our key");
    const auto name = name_of(kName);
    require(name && X509_NAME_cmp(X509_get_subject_name(certificate->get()), name->get()) == 0, "for our name");
    const auto again = import(to_pem("CERTIFICATE", der));
    require(again && *again == der, "what is taken is taken again");
}

}  // namespace
}  // namespace vtpm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    using namespace vtpm;
    static const Bytes right = [] {
        Bytes made = right_certificate();
        require(import(to_pem("CERTIFICATE", made)).has_value(), "a right certificate is taken");
        return made;
    }();
    require(!import({reinterpret_cast<const char *>(data), size}), "nobody else has our key");  // bytes as text
    Bytes changed = right;
    for (std::size_t i = 0; i + 2 < size; i += 3)
        changed[static_cast<std::size_t>(data[i] << 8 | data[i + 1]) % changed.size()] = data[i + 2];
    if (const auto taken = import(to_pem("CERTIFICATE", changed))) check_taken(*taken);
    return 0;
}
