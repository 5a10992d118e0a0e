// SPDX-License-Identifier: Apache-2.0
#include "manager/tpm/credential.hpp"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>

#include "base/big_endian.hpp"
#include "base/secret.hpp"
#include "manager/tpm/public_area.hpp"

namespace vtpm {
namespace {

constexpr std::size_t kDigest = SHA256_DIGEST_LENGTH;
constexpr std::size_t kAesKey = 16;
// Labels have their NUL with them (Part 1, 11.4.10.2 and B.4).
constexpr std::string_view kIdentity("IDENTITY\0", 9);
constexpr std::string_view kStorage("STORAGE\0", 8);
constexpr std::string_view kIntegrity("INTEGRITY\0", 10);

using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, FreeWith<EVP_CIPHER_CTX_free>>;
using Seed = Secret<kDigest>;

struct SharedSeed {
    Seed seed;
    Bytes encrypted;  // TPM2B_ENCRYPTED_SECRET's content
};

// KDFa for at most one block of HMAC-SHA-256 (Part 1, 11.4.10.2).
Result<Seed> kdfa(const Seed &key, std::string_view label, ByteView context, std::uint32_t bits) {
    const BigEndian input = BigEndian().number(1, 4).raw(bytes_of(label)).raw(context).number(bits, 4);
    Seed out;
    if (HMAC(EVP_sha256(), key.view().data(), static_cast<int>(kDigest), input.bytes().data(), input.bytes().size(),
             out.writable().data(), nullptr) == nullptr)
        return openssl_failed("HMAC");
    return out;
}

// Part 1, B.4.
Result<SharedSeed> seed_for_rsa(EVP_PKEY *key) {
    SharedSeed shared;
    const KeyContext context(EVP_PKEY_CTX_new_from_pkey(nullptr, key, nullptr));
    auto *label = static_cast<std::uint8_t *>(OPENSSL_memdup(kIdentity.data(), kIdentity.size()));
    if (label == nullptr || !context || RAND_priv_bytes(shared.seed.writable().data(), kDigest) != 1 ||
        EVP_PKEY_encrypt_init(context.get()) != 1 ||
        EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_OAEP_PADDING) != 1 ||
        EVP_PKEY_CTX_set_rsa_oaep_md(context.get(), EVP_sha256()) != 1 ||
        EVP_PKEY_CTX_set0_rsa_oaep_label(context.get(), label, static_cast<int>(kIdentity.size())) != 1) {
        OPENSSL_free(label);
        return openssl_failed("RSAES-OAEP");
    }
    shared.encrypted.resize(static_cast<std::size_t>(EVP_PKEY_get_size(key)));
    std::size_t size = shared.encrypted.size();
    if (EVP_PKEY_encrypt(context.get(), shared.encrypted.data(), &size, shared.seed.view().data(), kDigest) != 1)
        return openssl_failed("RSAES-OAEP");
    return shared;
}

Result<SecretBytes> agreed(EVP_PKEY *ephemeral, EVP_PKEY *key) {
    const KeyContext context(EVP_PKEY_CTX_new_from_pkey(nullptr, ephemeral, nullptr));
    SecretBytes z(kCoordinate);
    std::size_t size = kCoordinate;
    if (!context || EVP_PKEY_derive_init(context.get()) != 1 || EVP_PKEY_derive_set_peer(context.get(), key) != 1 ||
        EVP_PKEY_derive(context.get(), z.writable().data(), &size) != 1 || size != kCoordinate)
        return openssl_failed("ECDH");
    return z;
}

// Part 1, C.6.1: KDFe of what both agree on, for one block.
Result<SharedSeed> seed_for_ecc(const EndorsementKey &key) {
    const EvpKey ephemeral(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256"));
    if (!ephemeral) return openssl_failed("making an ephemeral key");
    VTPM_ASSIGN(const TPMT_PUBLIC area, public_area_of(ephemeral.get()));
    const TPMS_ECC_POINT &ours = area.unique.ecc;
    const ByteView our_x(ours.x.buffer, kCoordinate);
    const ByteView our_y(ours.y.buffer, kCoordinate);
    VTPM_ASSIGN(const SecretBytes z, agreed(ephemeral.get(), key.key.get()));
    const ByteView key_x(key.area.unique.ecc.x.buffer, kCoordinate);

    SharedSeed shared;
    SecretBytes input(4 + kCoordinate + kIdentity.size() + 2 * kCoordinate);
    auto at = input.writable().begin();
    constexpr std::uint8_t kCounter[] = {0, 0, 0, 1};
    for (const ByteView part : {ByteView(kCounter), z.view(), bytes_of(kIdentity), our_x, key_x})
        at = std::ranges::copy(part, at).out;
    SHA256(input.view().data(), input.view().size(), shared.seed.writable().data());
    shared.encrypted = BigEndian().number(kCoordinate, 2).raw(our_x).number(kCoordinate, 2).raw(our_y).bytes();
    return shared;
}

// AES-128 in CFB mode, from an initial vector of zeros: the key is used once.
Result<Bytes> encrypted(const Seed &key, ByteView plaintext) {
    constexpr std::array<std::uint8_t, 16> kZeros{};
    const CipherContext context(EVP_CIPHER_CTX_new());
    Bytes out(plaintext.size());
    int size = 0;
    if (!context ||
        EVP_EncryptInit_ex(context.get(), EVP_aes_128_cfb128(), nullptr, key.view().data(), kZeros.data()) != 1 ||
        EVP_EncryptUpdate(context.get(), out.data(), &size, plaintext.data(), static_cast<int>(plaintext.size())) !=
            1 ||
        static_cast<std::size_t>(size) != out.size())
        return openssl_failed("AES-CFB");
    return out;
}

}  // namespace

Result<Credential> make_credential(const EndorsementKey &key, ByteView name, ByteView secret) {
    require(key.kind != EkTemplate::kEccP384 && secret.size() <= kDigest, "a credential is made for SHA-256 keys");
    VTPM_ASSIGN(const SharedSeed shared,
                key.kind == EkTemplate::kRsa2048 ? seed_for_rsa(key.key.get()) : seed_for_ecc(key));
    VTPM_ASSIGN(const Seed storage, kdfa(shared.seed, kStorage, name, kAesKey * 8));
    VTPM_ASSIGN(const Seed integrity, kdfa(shared.seed, kIntegrity, {}, kDigest * 8));
    SecretBytes credential(2 + secret.size());  // TPM2B_DIGEST
    credential.writable()[1] = static_cast<std::uint8_t>(secret.size());
    std::ranges::copy(secret, credential.writable().begin() + 2);
    VTPM_ASSIGN(const Bytes identity, encrypted(storage, credential.view()));

    const BigEndian authenticated = BigEndian().raw(identity).raw(name);
    std::array<std::uint8_t, kDigest> hmac{};
    if (HMAC(EVP_sha256(), integrity.view().data(), static_cast<int>(kDigest), authenticated.bytes().data(),
             authenticated.bytes().size(), hmac.data(), nullptr) == nullptr)
        return openssl_failed("HMAC");
    const BigEndian content = BigEndian().number(kDigest, 2).raw(hmac).raw(identity);
    return Credential{
        marshalled(TPM2B_PUBLIC{0, key.area}),
        BigEndian().number(content.bytes().size(), 2).raw(content.bytes()).bytes(),
        BigEndian().number(shared.encrypted.size(), 2).raw(shared.encrypted).bytes(),
    };
}

}  // namespace vtpm
