// SPDX-License-Identifier: Apache-2.0
// Keys as OpenSSL makes them, and the files that it writes of them.
#pragma once

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include <stdexcept>
#include <string>

#include "base/bytes.hpp"
#include "manager/crypto/openssl.hpp"

inline vtpm::EvpKey made(EVP_PKEY *key) {
    if (key == nullptr) throw std::runtime_error("OpenSSL makes no key");
    return vtpm::EvpKey(key);
}

inline vtpm::EvpKey rsa_key(std::size_t bits) { return made(EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", bits)); }
inline vtpm::EvpKey ec_key(const char *curve = "P-256") {
    return made(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", curve));
}

// Large primes take their time: one key for all the tests of a program.
inline EVP_PKEY *rsa_2048() {
    static const vtpm::EvpKey key = rsa_key(2048);
    return key.get();
}
inline EVP_PKEY *rsa_3072() {
    static const vtpm::EvpKey key = rsa_key(3072);
    return key.get();
}
inline EVP_PKEY *p256() {
    static const vtpm::EvpKey key = ec_key();
    return key.get();
}

// Of a digest of SHA-256's size, in DER.
inline vtpm::Result<vtpm::Bytes> ecdsa(EVP_PKEY *key, vtpm::ByteView digest) {
    const vtpm::KeyContext context(EVP_PKEY_CTX_new_from_pkey(nullptr, key, nullptr));
    vtpm::Bytes signature(static_cast<std::size_t>(EVP_PKEY_get_size(key)));
    std::size_t size = signature.size();
    if (EVP_PKEY_sign_init(context.get()) != 1 ||
        EVP_PKEY_sign(context.get(), signature.data(), &size, digest.data(), digest.size()) != 1)
        throw std::runtime_error("OpenSSL does not sign");
    signature.resize(size);
    return signature;
}

// What `write` writes.
template <typename Write>
std::string written(Write write) {
    const vtpm::Bio bio(BIO_new(BIO_s_mem()));
    if (write(bio.get()) != 1) throw std::runtime_error("OpenSSL writes no key");
    char *text = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &text);
    return {text, static_cast<std::size_t>(size)};
}

inline std::string public_pem(EVP_PKEY *key) {
    return written([&](BIO *bio) { return PEM_write_bio_PUBKEY(bio, key); });
}
// PKCS#8.
inline std::string private_pem(EVP_PKEY *key) {
    return written([&](BIO *bio) { return PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr); });
}
// "RSA PRIVATE KEY" and "EC PRIVATE KEY".
inline std::string traditional_pem(EVP_PKEY *key) {
    return written([&](BIO *bio) {
        return PEM_write_bio_PrivateKey_traditional(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
    });
}

inline vtpm::ByteView view(const std::string &text) {
    return {reinterpret_cast<const std::uint8_t *>(text.data()), text.size()};
}
