// SPDX-License-Identifier: Apache-2.0
#include "manager/crypto/certificate_chain.hpp"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>

#include <algorithm>

#include "manager/crypto/pem.hpp"

namespace vtpm {
namespace {

constexpr std::size_t kMaxRootsFile = 1'048'576;  // all makers' roots
using Verification = std::unique_ptr<X509_STORE_CTX, FreeWith<X509_STORE_CTX_free>>;
using Borrowed = std::unique_ptr<STACK_OF(X509), decltype([](STACK_OF(X509) * all) { sk_X509_free(all); })>;
using TrustStore = std::unique_ptr<X509_STORE, FreeWith<X509_STORE_free>>;

using BorrowedLists =
    std::unique_ptr<STACK_OF(X509_CRL), decltype([](STACK_OF(X509_CRL) * all) { sk_X509_CRL_free(all); })>;

bool is_pem(std::string_view content) { return content.find("-----BEGIN ") != std::string_view::npos; }

// Called by OpenSSL at each thing that it finds. Whether somebody revoked what the verifier trusts is not asked.
int lists_below_the_anchor(int ok, X509_STORE_CTX *context) noexcept {
    const int last = sk_X509_num(X509_STORE_CTX_get0_chain(context)) - 1;
    const int error = X509_STORE_CTX_get_error(context);
    const bool no_list = error == X509_V_ERR_UNABLE_TO_GET_CRL || error == X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER;
    return ok == 1 || (no_list && X509_STORE_CTX_get_error_depth(context) == last) ? 1 : 0;
}

Result<> refuse_revoked(X509_STORE_CTX *verification, const std::vector<RevocationList> &revoked,
                        STACK_OF(X509_CRL) * lists) {
    if (lists == nullptr) return openssl_failed("sk_X509_CRL_new_null");
    for (const RevocationList &list : revoked)
        if (sk_X509_CRL_push(lists, list.get()) <= 0) return openssl_failed("sk_X509_CRL_push");
    X509_STORE_CTX_set0_crls(verification, lists);
    X509_STORE_CTX_set_flags(verification, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    X509_STORE_CTX_set_verify_cb(verification, lists_below_the_anchor);
    return {};
}

// With whose certificate it is about, if that is another one.
std::string problem(X509_STORE_CTX *verification, const X509 *certificate) {
    const char *why = X509_verify_cert_error_string(X509_STORE_CTX_get_error(verification));
    const X509 *about = X509_STORE_CTX_get_current_cert(verification);
    if (about == nullptr || about == certificate) return why;
    return fmt::format("{} (of {})", why, one_line(X509_get_subject_name(about)));
}

// As long as d2i_X509 reads one. Empty: there is none at the beginning.
std::size_t certificate_size(ByteView bytes) {
    const std::uint8_t *at = bytes.data();
    const Certificate certificate(d2i_X509(nullptr, &at, static_cast<long>(bytes.size())));
    ERR_clear_error();
    return certificate ? static_cast<std::size_t>(at - bytes.data()) : 0;
}

// Whether a DER SEQUENCE begins that would go on behind `bytes`.
bool goes_on(ByteView bytes) {
    constexpr std::uint8_t kSequence = 0x30;
    constexpr std::uint8_t kTwoOctets = 0x82;  // of its length, as every certificate has
    if (bytes.size() < 4) return !bytes.empty() && bytes[0] == kSequence;
    const std::size_t size = 4 + (std::size_t{bytes[2]} << 8 | bytes[3]);
    return bytes[0] == kSequence && bytes[1] == kTwoOctets && size > bytes.size();
}

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

Result<std::vector<Certificate>> certificates_from_file(std::string_view content) {
    return is_pem(content) ? certificates_from_pem(content) : certificates_from(bytes_of(content));
}

Result<std::vector<RevocationList>> revocation_lists_from_file(std::string_view content) {
    std::vector<RevocationList> lists;
    const Bio bio(BIO_new_mem_buf(content.data(), static_cast<int>(std::min(content.size(), kMaxRootsFile))));
    const bool pem = is_pem(content);
    while (bio) {
        RevocationList list(pem ? PEM_read_bio_X509_CRL(bio.get(), nullptr, no_passphrase, nullptr)
                                : d2i_X509_CRL_bio(bio.get(), nullptr));
        if (!list) break;
        lists.push_back(std::move(list));
        if (!pem) break;
    }
    const bool at_end = !pem || ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    if (lists.empty() || !at_end || content.size() > kMaxRootsFile)
        return fail(ErrorCode::kInvalid, "this is no file of revocation lists in PEM, and no list in DER, or damaged");
    return lists;
}

Bytes certificates_in_indices(const std::vector<Bytes> &contents) {
    Bytes certificates;
    Bytes rest;
    for (const Bytes &content : contents) {
        rest.insert(rest.end(), content.begin(), content.end());
        while (const std::size_t size = certificate_size(rest)) {
            const auto end = rest.begin() + static_cast<std::ptrdiff_t>(size);
            certificates.insert(certificates.end(), rest.begin(), end);
            rest.erase(rest.begin(), end);
        }
        if (!goes_on(rest)) rest.clear();
    }
    return certificates;
}

Result<> verify_chain(X509 *certificate, const std::vector<Certificate> &trusted, std::int64_t now, Strict strict,
                      const std::vector<Certificate> &between, const std::vector<RevocationList> &revoked) {
    const TrustStore store(X509_STORE_new());
    const Verification verification(X509_STORE_CTX_new());
    const Borrowed untrusted(sk_X509_new_null());
    const BorrowedLists lists(sk_X509_CRL_new_null());
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
    if (!revoked.empty()) VTPM_TRY(refuse_revoked(verification.get(), revoked, lists.get()));
    if (X509_verify_cert(verification.get()) == 1) return {};
    return fail(ErrorCode::kRefused, "{}", problem(verification.get(), certificate));
}

}  // namespace vtpm
