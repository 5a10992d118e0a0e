// SPDX-License-Identifier: Apache-2.0
// Certificates from outside: none leads to a root that has signed nothing. Input: whether it is a PEM file or the DER
// in one; then that.
#include "manager/crypto/certificate_chain.hpp"

#include "manager/ca/ca_certificate.hpp"
#include "manager/crypto/pem.hpp"
#include "tests/unit/manager/openssl_keys.hpp"

namespace vtpm {
namespace {

constexpr std::int64_t kNow = 1'800'000'000;

std::vector<Certificate> our_root() {
    EVP_PKEY_up_ref(p256());
    const CaKey key{EvpKey(p256()), [](ByteView digest) { return ecdsa(p256(), digest); }};
    const auto made = self_signed_ca("root", key, kNow);
    require(made.has_value(), "a root");
    auto read = certificates_from_pem(to_pem("CERTIFICATE", *made));
    require(read && read->size() == 1, "what is written is read");
    require(verify_chain(read->front().get(), *read, kNow, Strict::kYes).has_value(), "a root leads to itself");
    return std::move(*read);
}

}  // namespace
}  // namespace vtpm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    using namespace vtpm;
    static const std::vector<Certificate> root = our_root();
    if (size == 0) return 0;
    const ByteView input(data + 1, size - 1);
    // As a TPM may have it in its NV, and a file of a maker's.
    const Bytes half(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(input.size() / 2));
    const Bytes other(input.begin() + static_cast<std::ptrdiff_t>(half.size()), input.end());
    const Bytes in_nv = certificates_in_indices({half, other});
    require(in_nv.size() <= input.size(), "none is made up");
    require(in_nv.empty() || certificates_from(in_nv).has_value(), "what was found is certificates");
    (void)revocation_lists_from_file({reinterpret_cast<const char *>(input.data()), input.size()});  // bytes as text
    (void)revocation_lists_from_file(to_pem("X509 CRL", input));
    const std::string pem = data[0] % 2 == 0 ? std::string(input.begin(), input.end()) : to_pem("CERTIFICATE", input);
    const auto certificates = certificates_from_pem(pem);
    if (!certificates) return 0;
    require(certificates->size() <= pem.size() / std::size("-----BEGIN CERTIFICATE-----"), "none is made up");
    for (const Certificate &certificate : *certificates) {
        require(!verify_chain(certificate.get(), root, kNow, Strict::kYes), "the root has signed nothing");
        require(!verify_chain(certificate.get(), root, kNow, Strict::kNo), "the root has signed nothing");
        // Of itself and the others, whatever they say of each other.
        (void)verify_chain(certificate.get(), *certificates, kNow, Strict::kYes);
    }
    return 0;
}
