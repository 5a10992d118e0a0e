// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/signing_key.hpp"

#include <openssl/pem.h>

#include "manager/crypto/openssl.hpp"
#include "manager/crypto/pem.hpp"

namespace vtpm {
namespace {

tl::unexpected<Error> no_key(std::string_view label) {
    if (label.empty()) return fail(ErrorCode::kInvalid, "this is no private key: no PEM file");
    return fail(ErrorCode::kInvalid, "this is no private key that OpenSSL can read: a PEM file of '{}'", label);
}

// openssl ecparam -genkey writes the curve before the key, and OpenSSL 3.0 would take that for the key.
std::string_view after_parameters(std::string_view text) {
    constexpr std::string_view kEnd = "-----END EC PARAMETERS-----";
    const auto at = text.find(kEnd);
    return at == std::string_view::npos ? text : text.substr(at + kEnd.size());
}

Result<EvpKey> read_private_key(std::string_view text) {
    if (text.size() > kMaxPem)
        return fail(ErrorCode::kInvalid, "a file of {} bytes is too large for a private key", text.size());
    text = after_parameters(text);
    const Bio bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
    bool encrypted = false;
    EvpKey key(bio ? PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, &encrypted) : nullptr);
    if (key) return key;
    if (encrypted)
        return fail(ErrorCode::kInvalid, "the private key has a passphrase: pipe it through openssl pkey -in FILE");
    return no_key(pem_label(text));
}

}  // namespace

Result<SigningKey> SigningKey::from_pem(ByteView text) {
    // Bytes as text; char and unsigned char may alias.
    VTPM_ASSIGN(EvpKey key, read_private_key({reinterpret_cast<const char *>(text.data()), text.size()}));
    VTPM_ASSIGN(ApproverKey approver, ApproverKey::from_openssl(key.get()));
    return SigningKey(std::move(key), std::move(approver));
}

// The signature is checked before anyone gets it: a damaged private key would make one that is worthless, or, with
// RSA-CRT, one that gives the key away.
Result<Bytes> SigningKey::sign(ByteView message) const {
    const DigestContext context(EVP_MD_CTX_new());
    Bytes signature(static_cast<std::size_t>(EVP_PKEY_get_size(key_.get())));
    std::size_t size = signature.size();
    if (!context ||
        EVP_DigestSignInit_ex(context.get(), nullptr, "SHA256", nullptr, nullptr, key_.get(), nullptr) != 1 ||
        EVP_DigestSign(context.get(), signature.data(), &size, message.data(), message.size()) != 1)
        return openssl_failed("signing");
    signature.resize(size);
    if (!approver_.verify(message, signature)) return fail(ErrorCode::kInvalid, "the private key is damaged");
    return signature;
}

}  // namespace vtpm
