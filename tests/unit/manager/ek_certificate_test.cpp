// SPDX-License-Identifier: Apache-2.0
#include "manager/ca/ek_certificate.hpp"

#include <openssl/sha.h>

#include <algorithm>

#include "certificates.hpp"
#include "manager/ca/ca_certificate.hpp"
#include "manager/ca/signed_ca.hpp"
#include "manager/crypto/pem.hpp"
#include "manager/tpm/public_area.hpp"

namespace vtpm::ek_certificate_test {

namespace {

// What TPM2_ReadPublic answered for keys that tpm2_createek (tpm2-tools 5.4) made in a swtpm, and their Names.
struct Sample {
    EkTemplate kind;
    std::string head;                 // the TPM2B_PUBLIC up to `unique`
    std::vector<std::string> unique;  // its numbers
    std::string name;
};

Sample rsa_sample() {
    return {EkTemplate::kRsa2048,
            "013a0001000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"
            "00060080004300100800000000000100",
            {"b568013c858bc065aa4c20950be48eb9476541d8540059a62db56524843e233d0630fb800082feba9f6e00f6cdcac31a"
             "ad62c28a2f1efbe2c3fa0503e1d574948b8ebb1cf8a4f2f4acc995a59d47354b832f04ca6d373821a3a7e93f3f68b54f"
             "828ea1da4243a59dbfb4a0401ac2135a02b16a24aab99cccea7379cb5a1fbba3f9ece7b4762907b3bf681b9c64f43140"
             "6bd50fb07afd80802c091ab67cc277abf473c73923a0f99854a8ab0dcd216faecbaf36c75da4dfe1c334125baeeac8bd"
             "403f51148757ebc2e9b55bbb749f9c2f8d0f462e85347f29a0be4dc3ec4baea5ea26ca4a332efe46903c62b684a25015"
             "861d3acfd00ec0a5fb496c5467f8facd"},
            "000b0f621a7ad02d12c79c3cfa0dbf8cf8278687bb547214a513217dea804f543cb0"};
}

Sample p256_sample() {
    return {EkTemplate::kEccP256,
            "007a0023000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"
            "0006008000430010000300100020",
            {"3684729b1e5d682ec2a638b8e30e419e902791931732ba546bc646405c9a39c0",
             "a3c03f864cda950f8c785c80e22e020c549a130c687caabfd5c697c06b514a32"},
            "000b260325403037f54e8ce22669a4588aa413e9f079b60b936f60c583cf3979fb9b"};
}

Sample p384_sample() {
    return {
        EkTemplate::kEccP384,
        "00aa0023000c000300f20030b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9f"
        "c000f3f80e120006010000430010000400100030",
        {"1f61aeba325ccf82b0b7ab97b24a404f9bd2241e5640d2b1339231c8f48d9702c43219c69fcd0a0a37f5e76533d168ed",
         "046d07292d5e5379f6758e9e9db26c2bc9a0dec67dd1b62f6f60e0212767df2d8f1543d4f2ccb1da0590dcf7f223fc61"},
        "000cd5e63376db2b58a9c4b7eafde70660f320b8c1f2b4da916cc653893f9a0d6f30b3e72de59d5ea95dc3ce66eb06644fe7"};
}

Bytes hex(const std::string &text) { return from_hex(text).value(); }

// The numbers follow each other, with the length of the second between them.
Bytes public_area(const Sample &sample) {
    Bytes area = hex(sample.head);
    for (std::size_t i = 0; i < sample.unique.size(); ++i) {
        const Bytes number = hex(sample.unique[i]);
        if (i > 0) area.insert(area.end(), {0, static_cast<std::uint8_t>(number.size())});
        area.insert(area.end(), number.begin(), number.end());
    }
    return area;
}

Sample with(Sample sample, const std::vector<std::string> &unique) {
    sample.unique = unique;
    return sample;
}

EndorsementKey key_of(const Sample &sample) { return expect(endorsement_key(public_area(sample))); }

void refused(const Bytes &area) { REQUIRE(expect_error(endorsement_key(area)).code == ErrorCode::kInvalid); }
void refused(const Sample &sample) { refused(public_area(sample)); }

TpmDescription swtpm() { return {"id:00001014", "swtpm", "id:20191023", 164}; }
Uuid uuid() { return Uuid::parse("8a1f6f4e-6a43-4c5c-9d0e-2f3b7c9f1d21").value(); }

// One CA for all the tests.
const Bytes &ca() {
    static const Bytes der = expect(self_signed_ca(kCaName, ca_key(), kNow));
    return der;
}

Bytes ek_of(const Sample &sample) {
    return expect(ek_certificate(key_of(sample), uuid(), swtpm(), ca(), ca_key(), kNow));
}

Error failure(const TpmDescription &tpm, const Bytes &ca_certificate, const CaKey &key) {
    return expect_error(ek_certificate(key_of(p256_sample()), uuid(), tpm, ca_certificate, key, kNow));
}

}  // namespace

TEST_CASE("an endorsement key of a default template is known, with its Name") {
    const Sample sample = GENERATE(rsa_sample(), p256_sample(), p384_sample());
    const EndorsementKey key = key_of(sample);
    REQUIRE(key.kind == sample.kind);
    REQUIRE(to_hex(key.name) == sample.name);
    REQUIRE(marshalled(TPM2B_PUBLIC{0, key.area}) == public_area(sample));
    const char *parameter = sample.kind == EkTemplate::kRsa2048 ? OSSL_PKEY_PARAM_RSA_N : OSSL_PKEY_PARAM_EC_PUB_X;
    BIGNUM *number = nullptr;
    REQUIRE(EVP_PKEY_get_bn_param(key.key.get(), parameter, &number) == 1);
    Bytes first(hex(sample.unique[0]).size());
    BN_bn2binpad(number, first.data(), static_cast<int>(first.size()));
    BN_free(number);
    REQUIRE(to_hex(first) == sample.unique[0]);
}

TEST_CASE("the templates are those that the samples were made from") {
    REQUIRE(ek_template(EkTemplate::kRsa2048) == public_area(with(rsa_sample(), {std::string(512, '0')})));
    const std::string zero(64, '0');
    REQUIRE(ek_template(EkTemplate::kEccP256) == public_area(with(p256_sample(), {zero, zero})));
    Bytes p384 = hex(p384_sample().head);
    p384[1] = static_cast<std::uint8_t>(p384.size());  // nothing in `unique`: two lengths of 0
    p384.back() = 0;
    p384.insert(p384.end(), {0, 0});
    REQUIRE(to_hex(ek_template(EkTemplate::kEccP384)) == to_hex(p384));
}

TEST_CASE("the policy of the low templates is PolicySecret(TPM_RH_ENDORSEMENT)") {
    Bytes extended(SHA256_DIGEST_LENGTH);  // TCG Part 3, 23.4: zeros, the command code, the Name; then no policyRef
    extended.insert(extended.end(), {0, 0, 1, 0x51, 0x40, 0, 0, 0x0b});
    Bytes digest(SHA256_DIGEST_LENGTH);
    SHA256(extended.data(), extended.size(), digest.data());
    SHA256(Bytes(digest).data(), digest.size(), digest.data());
    const TPM2B_DIGEST &policy = key_of(rsa_sample()).area.authPolicy;
    REQUIRE(to_hex({policy.buffer, policy.size}) == to_hex(digest));
}

TEST_CASE("a template is not a key yet") {
    for (const EkTemplate kind : {EkTemplate::kRsa2048, EkTemplate::kEccP256, EkTemplate::kEccP384})
        refused(ek_template(kind));
}

TEST_CASE("certificates are where tools look for them") {
    REQUIRE(ek_certificate_index(EkTemplate::kRsa2048) == 0x01c00002);
    REQUIRE(ek_certificate_index(EkTemplate::kEccP256) == 0x01c0000a);
    REQUIRE(ek_certificate_index(EkTemplate::kEccP384) == 0x01c00016);
}

TEST_CASE("a key that differs from its template in a single bit is refused") {
    const Sample sample = GENERATE(rsa_sample(), p256_sample(), p384_sample());
    const Bytes area = public_area(sample);
    const std::size_t head = hex(sample.head).size();
    const bool ecc = sample.kind != EkTemplate::kRsa2048;
    // Of an elliptic curve's point, neither number can be changed alone by a bit; an RSA modulus may happen to be one.
    for (std::size_t at = 0; at < (ecc ? area.size() : head); ++at)
        for (unsigned bit = 0; bit < 8; ++bit) {
            Bytes changed = area;
            changed[at] = static_cast<std::uint8_t>(changed[at] ^ (1U << bit));
            refused(changed);
        }
}

TEST_CASE("a key that was cut or extended is refused") {
    const Bytes area = public_area(GENERATE(rsa_sample(), p256_sample(), p384_sample()));
    for (std::size_t size = 0; size < area.size(); ++size)
        refused(Bytes(area.begin(), area.begin() + static_cast<std::ptrdiff_t>(size)));
    Bytes longer = area;
    longer.push_back(0);
    refused(longer);
    longer[1] = static_cast<std::uint8_t>(longer[1] + 1);  // and its own length says so
    refused(longer);
    refused(Bytes(1000, 0xff));
}

TEST_CASE("an RSA modulus has 2048 bits and can be a product of two large primes") {
    const std::string good = rsa_sample().unique[0];
    const auto changed = [&](std::size_t at, char digit) {
        std::string modulus = good;
        modulus[at] = digit;
        return with(rsa_sample(), {modulus});
    };
    refused(changed(good.size() - 1, 'c'));                      // even
    refused(changed(0, '7'));                                    // 2047 bits
    refused(with(rsa_sample(), {"00" + good.substr(2)}));        // 2040
    refused(with(rsa_sample(), {std::string(512, 'f')}));        // divisible by 3
    refused(with(rsa_sample(), {std::string(511, '0') + "1"}));  // 1
    const EvpKey small = rsa_key(1024);
    BIGNUM *modulus = nullptr;
    REQUIRE(EVP_PKEY_get_bn_param(small.get(), OSSL_PKEY_PARAM_RSA_N, &modulus) == 1);
    Bytes padded(256);
    BN_bn2binpad(modulus, padded.data(), 256);
    BN_free(modulus);
    refused(with(rsa_sample(), {to_hex(padded)}));
    Sample shorter = with(rsa_sample(), {good.substr(2)});  // a modulus of 255 bytes, and lengths that say so
    shorter.head.replace(0, 4, "0139");
    shorter.head.replace(shorter.head.size() - 4, 4, "00ff");
    refused(shorter);
}

TEST_CASE("a point is on its curve") {
    const std::string zero(64, '0');
    refused(with(p256_sample(), {zero, zero}));
    refused(with(p256_sample(), {p256_sample().unique[1], p256_sample().unique[0]}));
    refused(with(p256_sample(), {std::string(64, 'f'), p256_sample().unique[1]}));
    // x = 0 is on P-256; x = p is the same to who does not look.
    const std::string y = "66485c780e2f83d72433bd5d84a06bb6541c2af31dae871728bf856a174f93f4";
    expect(endorsement_key(public_area(with(p256_sample(), {zero, y}))));
    refused(with(p256_sample(), {"ffffffff00000001000000000000000000000000ffffffffffffffffffffffff", y}));
    refused(with(p384_sample(), {std::string(96, '0'), std::string(96, '0')}));
    refused(with(p384_sample(), {p384_sample().unique[1], p384_sample().unique[0]}));
    refused(with(p384_sample(), {p256_sample().unique[0], p256_sample().unique[1]}));
}

TEST_CASE("an endorsement key's certificate says what the profile asks for, and no more") {
    const Sample sample = GENERATE(rsa_sample(), p256_sample(), p384_sample());
    const Certificate certificate = parsed(ek_of(sample));
    X509 *const ek = certificate.get();
    REQUIRE(X509_get_version(ek) == X509_VERSION_3);
    REQUIRE(X509_get0_serialNumber(ek)->type == V_ASN1_INTEGER);
    REQUIRE(X509_get0_serialNumber(ek)->length == 20);
    REQUIRE(X509_get_signature_nid(ek) == NID_ecdsa_with_SHA256);
    REQUIRE(issuer_of(ek) == common_name(kCaName));
    REQUIRE(subject_of(ek) == common_name("8a1f6f4e-6a43-4c5c-9d0e-2f3b7c9f1d21"));
    REQUIRE(EVP_PKEY_eq(X509_get0_pubkey(ek), key_of(sample).key.get()) == 1);
    REQUIRE(ASN1_TIME_cmp_time_t(X509_get0_notBefore(ek), kNow - 300) == 0);
    REQUIRE(std::string(reinterpret_cast<const char *>(X509_get0_notAfter(ek)->data)) == "99991231235959Z");
    REQUIRE(X509_get_ext_count(ek) == 6);
    REQUIRE(extension(ek, NID_authority_key_identifier) == "30168014" + key_identifier(parsed(ca()).get()));
    REQUIRE(extension(ek, NID_basic_constraints) == "critical 3000");  // CA:FALSE
    const bool rsa = sample.kind == EkTemplate::kRsa2048;
    REQUIRE(extension(ek, NID_key_usage) == (rsa ? "critical 03020520" : "critical 03020308"));
    REQUIRE(extension(ek, NID_ext_key_usage) == "300706056781050801");
    // As swtpm_cert (swtpm 0.7.1) writes them for the same TPM; there the first is critical.
    REQUIRE(extension(ek, NID_subject_alt_name) ==
            "3046a444304231163014060567810502010c0b69643a30303030313031343110300e060567810502020c05737774706d3116301406"
            "0567810502030c0b69643a3230313931303233");
    REQUIRE(extension(ek, NID_subject_directory_attributes) ==
            "3019301706056781050210310e300c0c03322e30020100020200a4");
}

TEST_CASE("an endorsement key's certificate fits an NV index") {
    const TpmDescription long_model = {"id:FFFFFFFF", std::string(64, 'M'), "id:FFFFFFFF", 0xffffffff};
    const Bytes ca_name_long = expect(self_signed_ca(std::string(64, 'C'), ca_key(), kNow));
    const Bytes der = expect(ek_certificate(key_of(rsa_sample()), uuid(), long_model, ca_name_long, ca_key(), kNow));
    REQUIRE(der.size() < 1024);
    REQUIRE(extension(parsed(der).get(), NID_subject_directory_attributes) ==
            "301c301a060567810502103111300f0c03322e30020100020500ffffffff");
}

TEST_CASE("OpenSSL follows a certificate to the CA, and to no other") {
    const Bytes ek = ek_of(GENERATE(rsa_sample(), p256_sample(), p384_sample()));
    REQUIRE(verdict({ek}, ca()) == X509_V_OK);
    REQUIRE(verdict({ek}, ca(), kLastUtc - 1) == X509_V_OK);
    static const EvpKey other = ec_key();
    REQUIRE(verdict({ek}, expect(self_signed_ca(kCaName, ca_key(other.get()), kNow))) != X509_V_OK);
    REQUIRE(verdict({ek}, expect(self_signed_ca("another", ca_key(), kNow))) != X509_V_OK);
    Bytes changed = ek;
    changed[changed.size() / 2] ^= 1;
    if (certificate_from(changed)) REQUIRE(verdict({changed}, ca()) != X509_V_OK);
}

TEST_CASE("what was issued before another CA signed, and after, leads to that one") {
    const Bytes before = ek_of(p256_sample());
    const Bytes imported = expect(signed_ca_from_pem(view(to_pem("CERTIFICATE", issued({}))), kCaName, ca_key(), kNow));
    const Bytes after = expect(ek_certificate(key_of(p384_sample()), uuid(), swtpm(), imported, ca_key(), kNow));
    REQUIRE(verdict({before, imported}, root_certificate()) == X509_V_OK);
    REQUIRE(verdict({after, imported}, root_certificate()) == X509_V_OK);
    REQUIRE(verdict({after}, ca()) == X509_V_OK);
    REQUIRE(verdict({after}, root_certificate()) == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY);
}

TEST_CASE("a certificate that is issued again says the same of the TPM, and leads to the CA that there is now") {
    const auto sample = GENERATE(rsa_sample(), p256_sample(), p384_sample());
    const EndorsementKey ek = key_of(sample);
    static const EvpKey other = ec_key();
    const Bytes new_ca = expect(self_signed_ca("another", ca_key(other.get()), kNow));
    const Bytes former = ek_of(sample);
    const Bytes again = expect(ek_certificate_again(former, ek, uuid(), new_ca, ca_key(other.get()), kNow));
    REQUIRE(verdict({again}, new_ca) == X509_V_OK);
    REQUIRE(verdict({again}, ca()) != X509_V_OK);
    const Certificate made = parsed(again);
    REQUIRE(check_ek_certificate(made.get(), ek, uuid()));
    REQUIRE(X509_get_ext_count(made.get()) == 6);
    for (const int nid : {NID_basic_constraints, NID_key_usage, NID_ext_key_usage, NID_subject_alt_name,
                          NID_subject_directory_attributes})
        REQUIRE(extension(made.get(), nid) == extension(parsed(former).get(), nid));
    // And once more, of that.
    REQUIRE(ek_certificate_again(again, ek, uuid(), ca(), ca_key(), kNow));
}

TEST_CASE("what is no certificate of this key and this vTPM is not issued again") {
    const EndorsementKey ek = key_of(p256_sample());
    const Bytes former = ek_of(p256_sample());
    const auto again = [&](const Bytes &what, const Uuid &vtpm) {
        return ek_certificate_again(what, ek, vtpm, ca(), ca_key(), kNow);
    };
    REQUIRE(again(former, uuid()));
    REQUIRE(expect_error(again(former, Uuid::random())).code == ErrorCode::kRefused);
    REQUIRE(expect_error(again(ek_of(p384_sample()), uuid())).code == ErrorCode::kRefused);
    REQUIRE_FALSE(again(ca(), uuid()));
    REQUIRE_FALSE(again(Bytes{}, uuid()));
}

TEST_CASE("a TPM that cannot be is not described") {
    const auto tpm = GENERATE(
        as<TpmDescription>(),                         //
        TpmDescription{"", "m", "id:20191023", 164},  //
        TpmDescription{"id:49424D0", "m", "id:20191023", 164}, TpmDescription{"id:49424D000", "m", "id:20191023", 164},
        TpmDescription{"id:49424d00", "m", "id:20191023", 164}, TpmDescription{"ID:49424D00", "m", "id:20191023", 164},
        TpmDescription{"49424D00xxx", "m", "id:20191023", 164}, TpmDescription{"id:49424D00", "", "id:20191023", 164},
        TpmDescription{"id:49424D00", "m\n", "id:20191023", 164},
        TpmDescription{"id:49424D00", "\xc3\xa9", "id:20191023", 164},
        TpmDescription{"id:49424D00", std::string(65, 'm'), "id:20191023", 164},
        TpmDescription{"id:49424D00", "m", "1.2", 164});
    REQUIRE(failure(tpm, ca(), ca_key()).code == ErrorCode::kInvalid);
}

TEST_CASE("the CA's certificate must be one, and its key's") {
    static const EvpKey other = ec_key();
    const Bytes others = expect(self_signed_ca(kCaName, ca_key(other.get()), kNow));
    for (const Bytes &wrong : {Bytes{}, Bytes(100, 0x30), Bytes(ca().begin(), ca().end() - 1), others})
        REQUIRE_THAT(failure(swtpm(), wrong, ca_key()).text, Contains("the CA's certificate"));
    REQUIRE(failure(swtpm(), others, ca_key()).code == ErrorCode::kInvalid);
}

TEST_CASE("no endorsement key is certified with a signature that is not the CA's") {
    const CaKey away{shared(p256()), [](ByteView) { return fail(ErrorCode::kUnavailable, "the TPM is away"); }};
    REQUIRE(failure(swtpm(), ca(), away).code == ErrorCode::kUnavailable);
    static const EvpKey other = ec_key();
    const CaKey exchanged{shared(p256()), [](ByteView digest) { return ecdsa(other.get(), digest); }};
    REQUIRE(failure(swtpm(), ca(), exchanged).code == ErrorCode::kSystem);
    const Bytes elsewhere(32, 1);
    const CaKey wrong = changed_ca_key([&](const Bytes &) { return *ecdsa(p256(), elsewhere); });
    REQUIRE(failure(swtpm(), ca(), wrong).code == ErrorCode::kSystem);
}

}  // namespace vtpm::ek_certificate_test
