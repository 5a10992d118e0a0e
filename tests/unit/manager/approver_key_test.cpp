// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/approver_key.hpp"

#include <openssl/sha.h>
#include <openssl/x509.h>

#include <algorithm>

#include "expect.hpp"
#include "manager/boot/signing_key.hpp"
#include "openssl_keys.hpp"

namespace vtpm::approver_key_test {

namespace {

constexpr std::uint8_t kMessage[] = {'b', 'o', 'o', 't'};

EVP_PKEY *any_accepted() { return GENERATE(rsa_2048, rsa_3072, p256)(); }

ApproverKey key_of(EVP_PKEY *key) { return expect(ApproverKey::from_pem(public_pem(key))); }

Bytes signature_of(EVP_PKEY *key) {
    return expect(expect(SigningKey::from_pem(view(private_pem(key)))).sign(kMessage));
}

std::string refusal(const std::string &pem) {
    const Error error = expect_error(ApproverKey::from_pem(pem));
    REQUIRE(error.code == ErrorCode::kInvalid);
    return error.text;
}

EvpKey generated(const char *type, int (*prepare)(EVP_PKEY_CTX *)) {
    const KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
    EVP_PKEY *key = nullptr;
    if (EVP_PKEY_keygen_init(context.get()) != 1 || prepare(context.get()) <= 0 ||
        EVP_PKEY_generate(context.get(), &key) != 1)
        throw std::runtime_error("keygen");
    return EvpKey(key);
}

EvpKey rsa_with_exponent_3() {
    return generated("RSA", [](EVP_PKEY_CTX *context) {
        const BigNumber three(BN_new());
        return BN_set_word(three.get(), 3) == 1 && EVP_PKEY_CTX_set_rsa_keygen_bits(context, 2048) == 1
                   ? EVP_PKEY_CTX_set1_rsa_keygen_pubexp(context, three.get())
                   : 0;
    });
}

EvpKey rsa_pss() {
    return generated("RSA-PSS", [](EVP_PKEY_CTX *context) { return EVP_PKEY_CTX_set_rsa_keygen_bits(context, 2048); });
}

// P-256, spelt out in parameters.
EvpKey explicit_curve() {
    return generated("EC", [](EVP_PKEY_CTX *context) {
        return EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1) == 1
                   ? EVP_PKEY_CTX_set_ec_param_enc(context, OPENSSL_EC_EXPLICIT_CURVE)
                   : 0;
    });
}

EvpKey compressed_point() {
    EvpKey key = ec_key();
    EVP_PKEY_set_utf8_string_param(key.get(), OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, "compressed");
    return key;
}

// A PEM file whose content nobody reads.
std::string labelled(const std::string &label) {
    return "-----BEGIN " + label + "-----\nAAAA\n-----END " + label + "-----\n";
}

Bytes flipped(Bytes bytes, std::size_t bit) {
    bytes[bit / 8] = static_cast<std::uint8_t>(bytes[bit / 8] ^ (1U << (bit % 8)));
    return bytes;
}

}  // namespace

TEST_CASE("an approver's key is the same from its PEM and from the store") {
    EVP_PKEY *const openssl = any_accepted();
    const ApproverKey key = key_of(openssl);
    REQUIRE(expect(key.to_pem()) == public_pem(openssl));
    const ApproverKey stored = expect(ApproverKey::from_public_area(key.public_area()));
    REQUIRE(expect(stored.to_pem()) == public_pem(openssl));
    REQUIRE(stored.fingerprint() == key.fingerprint());
    REQUIRE(std::ranges::equal(stored.for_tpm({}).name.name, key.for_tpm({}).name.name));
    REQUIRE(stored.public_area() == key.public_area());
}

TEST_CASE("a PEM file may have the line ends of another system, and blank lines around the key") {
    std::string pem = public_pem(p256());
    for (std::size_t at = 0; (at = pem.find('\n', at)) != std::string::npos; at += 2) pem.insert(at, "\r");
    REQUIRE(expect(ApproverKey::from_pem("\n" + pem + "\r\n\n")).fingerprint() == key_of(p256()).fingerprint());
}

TEST_CASE("the TPM is told that an approver's key verifies, and does nothing else") {
    const TPMT_PUBLIC rsa = key_of(rsa_3072()).for_tpm({}).key.publicArea;
    REQUIRE(rsa.type == TPM2_ALG_RSA);
    REQUIRE(rsa.nameAlg == TPM2_ALG_SHA256);
    REQUIRE(rsa.objectAttributes == (TPMA_OBJECT_SIGN_ENCRYPT | TPMA_OBJECT_USERWITHAUTH));
    REQUIRE(rsa.parameters.rsaDetail.scheme.scheme == TPM2_ALG_RSASSA);
    REQUIRE(rsa.parameters.rsaDetail.scheme.details.rsassa.hashAlg == TPM2_ALG_SHA256);
    REQUIRE(rsa.parameters.rsaDetail.keyBits == 3072);
    REQUIRE(rsa.unique.rsa.size == 384);
    const TPMT_PUBLIC ecc = key_of(p256()).for_tpm({}).key.publicArea;
    REQUIRE(ecc.type == TPM2_ALG_ECC);
    REQUIRE(ecc.objectAttributes == (TPMA_OBJECT_SIGN_ENCRYPT | TPMA_OBJECT_USERWITHAUTH));
    REQUIRE(ecc.parameters.eccDetail.scheme.scheme == TPM2_ALG_ECDSA);
    REQUIRE(ecc.parameters.eccDetail.curveID == TPM2_ECC_NIST_P256);
}

TEST_CASE("a fingerprint is the SHA-256 digest of the file's DER form") {
    EVP_PKEY *const openssl = any_accepted();
    std::uint8_t *der = nullptr;
    const int size = i2d_PUBKEY(openssl, &der);
    Bytes digest(SHA256_DIGEST_LENGTH);
    SHA256(der, static_cast<std::size_t>(size), digest.data());
    OPENSSL_free(der);
    REQUIRE(key_of(openssl).fingerprint() == fmt::format("SHA256:{:02x}", fmt::join(digest, "")));
}

TEST_CASE("a key of another kind is refused: what it is, and what is accepted, is said") {
    const auto [key, found] = GENERATE(table<EvpKey (*)(), const char *>({
        {[] { return rsa_key(1024); }, "RSA with 1024 bits"},
        {[] { return rsa_key(2056); }, "RSA with 2056 bits"},
        {rsa_with_exponent_3, "an exponent other than 65537"},
        {rsa_pss, "a key for RSA-PSS"},
        {[] { return ec_key("P-384"); }, "the curve secp384r1"},
        {[] { return ec_key("secp256k1"); }, "the curve secp256k1"},
        {[] { return made(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")); }, "a key for ED25519"},
        {[] { return made(EVP_PKEY_Q_keygen(nullptr, nullptr, "X25519")); }, "a key for X25519"},
    }));
    REQUIRE_THAT(
        refusal(public_pem(key().get())),
        Contains(found) && Contains("is RSA with 2048 or 3072 bits and the exponent 65537, or ECDSA on P-256"));
}

TEST_CASE("a key on P-256 that is no point is refused") {
    std::uint8_t infinity[] = {0x30, 0x19, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
                               0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x02, 0x00, 0x00};
    refusal(written([&](BIO *bio) { return PEM_write_bio(bio, "PUBLIC KEY", "", infinity, sizeof infinity) > 0; }));
}

TEST_CASE("a file that is no public key is refused, and what it is is said") {
    REQUIRE_THAT(refusal(""), Contains("no PEM file"));
    REQUIRE_THAT(refusal("ssh-ed25519 AAAA approver"), Contains("no PEM file"));
    REQUIRE_THAT(refusal(std::string("\0\xff\x01", 3)), Contains("no PEM file"));
    REQUIRE_THAT(refusal("-----BEGIN \x1b[2J-----\n"), Contains("no PEM file"));
    REQUIRE_THAT(refusal("-----BEGIN "), Contains("no PEM file"));
    REQUIRE_THAT(refusal(std::string(1 << 20, 'A')), Contains("1048576 bytes"));
    REQUIRE_THAT(refusal(private_pem(p256())), Contains("of 'PRIVATE KEY'") && Contains("-pubout"));
    REQUIRE_THAT(refusal(traditional_pem(rsa_2048())), Contains("of 'RSA PRIVATE KEY'"));
    for (const char *label : {"CERTIFICATE", "RSA PUBLIC KEY", "ENCRYPTED PRIVATE KEY", "EC PARAMETERS"})
        REQUIRE_THAT(refusal(labelled(label)), Contains(label));
    REQUIRE_THAT(refusal(labelled("PUBLIC KEY")), Contains("damaged"));
}

TEST_CASE("a file with anything besides one public key in its usual form is refused") {
    const std::string pem = public_pem(p256());
    const std::string other = public_pem(rsa_2048());
    const std::string header = "-----BEGIN PUBLIC KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n";
    for (const std::string &text :
         {pem + pem, pem + other, pem + "x", pem + std::string(1, '\0'), "# mine\n" + pem,
          pem + labelled("CERTIFICATE"), public_pem(explicit_curve().get()), public_pem(compressed_point().get())})
        REQUIRE_THAT(refusal(text), Contains("something besides one public key in its usual form"));
    refusal("x" + pem);
    refusal(header + pem.substr(pem.find('\n') + 1));  // and nobody is asked for a passphrase
}

TEST_CASE("a PEM file cut at any byte is refused") {
    const std::string pem = public_pem(p256());
    for (std::size_t size = 0; size + 1 < pem.size(); ++size) refusal(pem.substr(0, size));
}

TEST_CASE("a key in the store that was cut, extended or changed is refused") {
    const Bytes area = key_of(p256()).public_area();
    for (std::size_t size = 0; size < area.size(); ++size)
        REQUIRE(expect_error(ApproverKey::from_public_area(ByteView(area).first(size))).code == ErrorCode::kRefused);
    for (std::size_t bit = 0; bit < area.size() * 8; ++bit)
        REQUIRE(expect_error(ApproverKey::from_public_area(flipped(area, bit))).code == ErrorCode::kRefused);
    Bytes longer = area;
    longer.push_back(0);
    REQUIRE(expect_error(ApproverKey::from_public_area(longer)).code == ErrorCode::kRefused);
}

TEST_CASE("an RSA key in the store must be as we would make it, and have a modulus") {
    const Bytes area = key_of(rsa_2048()).public_area();
    const std::size_t modulus = (area.size() - 256) * 8;
    for (std::size_t bit = 0; bit < modulus; ++bit)
        REQUIRE(expect_error(ApproverKey::from_public_area(flipped(area, bit))).code == ErrorCode::kRefused);
    // Too small, even, nothing.
    REQUIRE_FALSE(ApproverKey::from_public_area(flipped(area, modulus + 7)));
    REQUIRE_FALSE(ApproverKey::from_public_area(flipped(area, area.size() * 8 - 8)));
    Bytes zero = area;
    std::fill(zero.end() - 256, zero.end(), std::uint8_t{0});
    REQUIRE_FALSE(ApproverKey::from_public_area(zero));
}

TEST_CASE("a smaller RSA key in the store does not pass for one of 2048 bits") {
    Bytes area = key_of(rsa_2048()).public_area();
    const EvpKey small = rsa_key(2032);
    BIGNUM *modulus = nullptr;
    REQUIRE(EVP_PKEY_get_bn_param(small.get(), OSSL_PKEY_PARAM_RSA_N, &modulus) == 1);
    REQUIRE(BN_bn2binpad(modulus, area.data() + area.size() - 256, 256) == 256);
    BN_free(modulus);
    REQUIRE(expect_error(ApproverKey::from_public_area(area)).code == ErrorCode::kRefused);
}

TEST_CASE("an object of another kind in the place of a key in the store is refused") {
    REQUIRE_FALSE(ApproverKey::from_public_area({}));
    REQUIRE_FALSE(ApproverKey::from_public_area(Bytes(2, 0)));
    REQUIRE_FALSE(ApproverKey::from_public_area(Bytes(1000, 0xff)));
    for (const std::uint8_t type : Bytes{0x08, 0x25, 0x00}) {  // keyedhash, symcipher, nothing
        Bytes area = key_of(p256()).public_area();
        area[3] = type;
        REQUIRE_FALSE(ApproverKey::from_public_area(area));
    }
}

TEST_CASE("a signature is the approver's over that message, or it is not") {
    EVP_PKEY *const openssl = any_accepted();
    const ApproverKey key = key_of(openssl);
    const Bytes signature = signature_of(openssl);
    REQUIRE(key.verify(kMessage, signature));
    REQUIRE_FALSE(key.verify(Bytes{'b', 'o', 'o'}, signature));
    REQUIRE_FALSE(key.verify({}, signature));
    REQUIRE_FALSE(key.verify(kMessage, {}));
    REQUIRE_FALSE(key.verify(kMessage, Bytes(signature.size(), 0)));
    for (std::size_t bit = 0; bit < signature.size() * 8; bit += 5)
        REQUIRE_FALSE(key.verify(kMessage, flipped(signature, bit)));
    Bytes longer = signature;
    longer.push_back(0);
    REQUIRE_FALSE(key.verify(kMessage, longer));
    for (EVP_PKEY *other : {rsa_2048(), rsa_3072(), p256()})
        if (other != openssl) REQUIRE_FALSE(key_of(other).verify(kMessage, signature));
}

TEST_CASE("the TPM gets RSA signatures as they are") {
    const Bytes signature = signature_of(rsa_2048());
    const TPMT_SIGNATURE tpm = expect(key_of(rsa_2048()).tpm_signature(signature));
    REQUIRE(tpm.sigAlg == TPM2_ALG_RSASSA);
    REQUIRE(tpm.signature.rsassa.hash == TPM2_ALG_SHA256);
    REQUIRE(tpm.signature.rsassa.sig.size == 256);
    REQUIRE(std::equal(signature.begin(), signature.end(), tpm.signature.rsassa.sig.buffer));
    REQUIRE(expect_error(key_of(rsa_2048()).tpm_signature(Bytes(255))).code == ErrorCode::kInvalid);
    REQUIRE_FALSE(key_of(rsa_2048()).tpm_signature(Bytes(1000)));
    REQUIRE_FALSE(key_of(rsa_2048()).tpm_signature({}));
}

TEST_CASE("the TPM gets both numbers of an ECDSA signature, in 32 bytes each") {
    const ApproverKey key = key_of(p256());
    const Bytes one_and_two = {0x30, 6, 2, 1, 1, 2, 1, 2};
    const TPMT_SIGNATURE tpm = expect(key.tpm_signature(one_and_two));
    REQUIRE(tpm.sigAlg == TPM2_ALG_ECDSA);
    REQUIRE(tpm.signature.ecdsa.hash == TPM2_ALG_SHA256);
    REQUIRE(tpm.signature.ecdsa.signatureR.size == 32);
    REQUIRE(tpm.signature.ecdsa.signatureR.buffer[30] == 0);
    REQUIRE(tpm.signature.ecdsa.signatureR.buffer[31] == 1);
    REQUIRE(tpm.signature.ecdsa.signatureS.size == 32);
    REQUIRE(tpm.signature.ecdsa.signatureS.buffer[31] == 2);
    Bytes too_large = {0x30, 38, 2, 33, 1};  // a number of 33 bytes
    too_large.resize(2 + 2 + 33);
    too_large.insert(too_large.end(), {2, 1, 1});
    for (const Bytes &wrong : {Bytes{}, Bytes{0x30}, Bytes{0x30, 6, 2, 1, 1, 2, 1, 2, 0}, too_large, Bytes(64, 1)})
        REQUIRE(expect_error(key.tpm_signature(wrong)).code == ErrorCode::kInvalid);
}

TEST_CASE("a private key is read in each of its forms, and belongs to its public key") {
    EVP_PKEY *const openssl = any_accepted();
    for (const std::string &pem : {private_pem(openssl), traditional_pem(openssl)}) {
        const SigningKey key = expect(SigningKey::from_pem(view(pem)));
        REQUIRE(key.approver().fingerprint() == key_of(openssl).fingerprint());
        REQUIRE(key_of(openssl).verify(kMessage, expect(key.sign(kMessage))));
    }
}

TEST_CASE("the parameters that OpenSSL writes before an EC key do not matter") {
    const std::string pem =
        written([&](BIO *bio) { return PEM_write_bio_Parameters(bio, p256()); }) + traditional_pem(p256());
    expect(SigningKey::from_pem(view(pem)));
}

TEST_CASE("a private key that leaves its public half out has it all the same") {
    const EvpKey key = ec_key();
    REQUIRE(EVP_PKEY_set_int_param(key.get(), OSSL_PKEY_PARAM_EC_INCLUDE_PUBLIC, 0) == 1);
    const SigningKey signing = expect(SigningKey::from_pem(view(private_pem(key.get()))));
    REQUIRE(signing.approver().fingerprint() == key_of(key.get()).fingerprint());
}

TEST_CASE("what is no usable private key is refused, and nobody is asked for a passphrase") {
    const auto refused = [](const std::string &pem) {
        const Error error = expect_error(SigningKey::from_pem(view(pem)));
        REQUIRE(error.code == ErrorCode::kInvalid);
        return error.text;
    };
    char passphrase[] = "secret";
    const std::string pkcs8 = written([&](BIO *bio) {
        return PEM_write_bio_PKCS8PrivateKey(bio, p256(), EVP_aes_256_cbc(), passphrase, 6, nullptr, nullptr);
    });
    const std::string traditional = written([&](BIO *bio) {
        return PEM_write_bio_PrivateKey_traditional(bio, p256(), EVP_aes_256_cbc(), view(passphrase).data(), 6, nullptr,
                                                    nullptr);
    });
    REQUIRE_THAT(refused(pkcs8), Contains("has a passphrase"));
    REQUIRE_THAT(refused(traditional), Contains("has a passphrase"));
    REQUIRE_THAT(refused(public_pem(p256())), Contains("PUBLIC KEY"));
    REQUIRE_THAT(refused(labelled("PRIVATE KEY")), Contains("PRIVATE KEY"));
    REQUIRE_THAT(refused("garbage"), Contains("no PEM file"));
    REQUIRE_THAT(refused(std::string(1 << 20, 'A')), Contains("too large"));
    REQUIRE_THAT(refused(private_pem(rsa_key(1024).get())), Contains("RSA with 1024 bits"));
    REQUIRE_THAT(refused(private_pem(ec_key("P-384").get())), Contains("secp384r1"));
}

}  // namespace vtpm::approver_key_test
