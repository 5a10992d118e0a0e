// SPDX-License-Identifier: Apache-2.0
#include "manager/ca/certificate_chain.hpp"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>

#include "manager/policy/pem.hpp"

namespace vtpm {
namespace {

constexpr std::size_t kMaxRootsFile = 1'048'576;  // all makers' roots
using Verification = std::unique_ptr<X509_STORE_CTX, FreeWith<X509_STORE_CTX_free>>;
using Borrowed = std::unique_ptr<STACK_OF(X509), decltype([](STACK_OF(X509) * all) { sk_X509_free(all); })>;
using TrustStore = std::unique_ptr<X509_STORE, FreeWith<X509_STORE_free>>;

}  // namespace

Result<std::vector<Certificate>> certificates_from_pem(std::string_view text) {
    const auto invalid = fail(ErrorCode::kInvalid, "this is no file of certificates in PEM, or it is damaged");
    if (text.size() > kMaxRootsFile) return invalid;
    const Bio bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
    std::vector<Certificate> certificates;
    while (bio) {
        Certificate certificate(PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, nullptr));
        if (!certificate) break;
        certificates.push_back(std::move(certificate));
    }
    const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    if (certificates.empty() || !at_end) return invalid;
    return certificates;
}

Result<> verify_chain(X509 *certificate, const std::vector<Certificate> &trusted, std::int64_t now, Strict strict,
                      const std::vector<Certificate> &between) {
    const TrustStore store(X509_STORE_new());
    const Verification verification(X509_STORE_CTX_new());
    const Borrowed untrusted(sk_X509_new_null());
    if (!store || !verification || !untrusted) return openssl_failed("verifying a certificate");
    for (const Certificate &anchor : trusted)
        if (X509_STORE_add_cert(store.get(), anchor.get()) != 1) return openssl_failed("X509_STORE_add_cert");
    for (const Certificate &one : between)
        if (sk_X509_push(untrusted.get(), one.get()) <= 0) return openssl_failed("sk_X509_push");
    if (X509_STORE_CTX_init(verification.get(), store.get(), certificate, untrusted.get()) != 1)
        return openssl_failed("X509_STORE_CTX_init");
    unsigned long flags = X509_V_FLAG_PARTIAL_CHAIN;
    if (strict == Strict::kYes) flags |= X509_V_FLAG_X509_STRICT;
    X509_STORE_CTX_set_flags(verification.get(), flags);
    X509_STORE_CTX_set_time(verification.get(), 0, now);
    if (X509_verify_cert(verification.get()) == 1) return {};
    return fail(ErrorCode::kRefused, "{}", X509_verify_cert_error_string(X509_STORE_CTX_get_error(verification.get())));
}

}  // namespace vtpm
