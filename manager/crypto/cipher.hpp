// SPDX-License-Identifier: Apache-2.0
// AES-256-GCM with a fresh random 96-bit nonce for each message (NIST SP 800-38D, 8.2.2).
#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"

namespace vtpm {

constexpr std::size_t kEpochSize = 32;  // bytes of a group's epoch (manifest.hpp)

constexpr std::size_t kKeySize = 32;
using Key = Secret<kKeySize>;

constexpr std::size_t kNonceSize = 12;
constexpr std::size_t kTagSize = 16;
constexpr std::size_t kCipherOverhead = kNonceSize + kTagSize;

// From OpenSSL's generator for secrets, which the kernel seeds.
Result<Key> random_key();
Result<> random_bytes(MutableBytes out);

// A key that was sealed or wrapped: kRefused if it has another size.
Result<Key> key_from(ByteView plaintext);

// Nonce, ciphertext and tag; `associated` is authenticated with them.
Result<Bytes> encrypt(const Key &key, ByteView associated, ByteView plaintext);

// The plaintext of `box` (nonce, ciphertext, tag). kRefused if a single bit of key, box or `associated` differs.
Result<SecretBytes> decrypt(const Key &key, ByteView associated, ByteView box);

// HMAC-SHA-256; `out` is 32 bytes.
Result<> hmac(const Key &key, ByteView message, MutableBytes out);

// One key for one use (NIST SP 800-108, the label alone: `key` is random).
Result<Key> derive_key(const Key &key, std::string_view label);

}  // namespace vtpm
