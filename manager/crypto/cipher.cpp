// SPDX-License-Identifier: Apache-2.0
#include "manager/crypto/cipher.hpp"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <memory>

#include "manager/crypto/openssl.hpp"

namespace vtpm {
namespace {

struct FreeCipher {
    void operator()(EVP_CIPHER_CTX *context) const { EVP_CIPHER_CTX_free(context); }
};
using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, FreeCipher>;

// GCM's IV is 96 bits by default: kNonceSize needs no extra call.
CipherContext start(const Key &key, ByteView nonce, ByteView associated, bool encrypting) {
    CipherContext context(EVP_CIPHER_CTX_new());
    int unused = 0;
    const bool good =
        context != nullptr &&
        EVP_CipherInit_ex2(context.get(), EVP_aes_256_gcm(), key.view().data(), nonce.data(), encrypting ? 1 : 0,
                           nullptr) == 1 &&
        EVP_CipherUpdate(context.get(), nullptr, &unused, associated.data(), static_cast<int>(associated.size())) == 1;
    return good ? std::move(context) : nullptr;
}

}  // namespace

Result<> random_bytes(MutableBytes out) {
    if (RAND_priv_bytes(out.data(), static_cast<int>(out.size())) != 1) return openssl_failed("RAND_priv_bytes");
    return {};
}

Result<Key> random_key() {
    Key key;
    VTPM_TRY(random_bytes(key.writable()));
    return key;
}

Result<Key> key_from(ByteView plaintext) {
    if (plaintext.size() != kKeySize) return fail(ErrorCode::kRefused, "a key of {} bytes", plaintext.size());
    Key key;
    std::ranges::copy(plaintext, key.writable().begin());
    return key;
}

Result<> hmac(const Key &key, ByteView message, MutableBytes out) {
    std::size_t size = 0;
    if (EVP_Q_mac(nullptr, "HMAC", nullptr, "SHA256", nullptr, key.view().data(), key.view().size(), message.data(),
                  message.size(), out.data(), out.size(), &size) == nullptr ||
        size != out.size())
        return openssl_failed("HMAC");
    return {};
}

Result<Key> derive_key(const Key &key, std::string_view label) {
    Key derived;
    VTPM_TRY(hmac(key, bytes_of(label), derived.writable()));
    return derived;
}

Result<Bytes> encrypt(const Key &key, ByteView associated, ByteView plaintext) {
    Bytes box(kCipherOverhead + plaintext.size());
    const MutableBytes nonce = MutableBytes(box).first(kNonceSize);
    VTPM_TRY(random_bytes(nonce));
    const CipherContext context = start(key, nonce, associated, true);
    std::uint8_t *ciphertext = box.data() + kNonceSize;
    std::uint8_t *tag = ciphertext + plaintext.size();
    const int size = static_cast<int>(plaintext.size());
    int written = 0;
    if (context == nullptr || EVP_EncryptUpdate(context.get(), ciphertext, &written, plaintext.data(), size) != 1 ||
        EVP_EncryptFinal_ex(context.get(), tag, &written) != 1 ||
        EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, kTagSize, tag) != 1)
        return openssl_failed("AES-256-GCM encryption");
    return box;
}

Result<SecretBytes> decrypt(const Key &key, ByteView associated, ByteView box) {
    if (box.size() < kCipherOverhead) return fail(ErrorCode::kRefused, "truncated");
    const ByteView ciphertext = box.subspan(kNonceSize, box.size() - kCipherOverhead);
    Bytes tag(box.end() - kTagSize, box.end());  // OpenSSL wants it writable
    const CipherContext context = start(key, box.first(kNonceSize), associated, false);
    if (context == nullptr || EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, kTagSize, tag.data()) != 1)
        return openssl_failed("AES-256-GCM decryption");
    SecretBytes plaintext(ciphertext.size());
    int written = 0;
    if (EVP_DecryptUpdate(context.get(), plaintext.writable().data(), &written, ciphertext.data(),
                          static_cast<int>(ciphertext.size())) != 1)
        return openssl_failed("AES-256-GCM decryption");
    std::uint8_t none = 0;
    if (EVP_DecryptFinal_ex(context.get(), &none, &written) != 1)
        return fail(ErrorCode::kRefused, "it is not authentic: changed, or made with another key");
    return plaintext;
}

}  // namespace vtpm
