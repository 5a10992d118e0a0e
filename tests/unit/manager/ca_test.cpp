// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>

#include "certificates.hpp"
#include "manager/ca/ca_certificate.hpp"
#include "manager/ca/signed_ca.hpp"
#include "manager/crypto/pem.hpp"

namespace vtpm::ca_test {

namespace {

constexpr const char *kCaConstraints = "critical 30060101ff020100";  // CA:TRUE, pathlen:0
constexpr const char *kCaUsage = "critical 03020204";                // keyCertSign

std::string pem_of(const Bytes &der) { return to_pem("CERTIFICATE", der); }

Result<Bytes> imported(const std::string &pem) { return signed_ca_from_pem(view(pem), kCaName, ca_key(), kNow); }

std::string refusal(const std::string &pem) {
    const Error error = expect_error(imported(pem));
    REQUIRE(error.code == ErrorCode::kInvalid);
    return error.text;
}

std::string refusal(const Issue &issue) { return refusal(pem_of(issued(issue))); }

Issue with(void (*change)(Issue &)) {
    Issue issue;
    change(issue);
    return issue;
}

}  // namespace

TEST_CASE("a self-signed CA's certificate says that it is one, and no more") {
    const Certificate certificate = parsed(expect(self_signed_ca(kCaName, ca_key(), kNow)));
    X509 *const ca = certificate.get();
    REQUIRE(X509_get_version(ca) == X509_VERSION_3);
    REQUIRE(subject_of(ca) == common_name(kCaName));
    REQUIRE(issuer_of(ca) == common_name(kCaName));
    REQUIRE(EVP_PKEY_eq(X509_get0_pubkey(ca), p256()) == 1);
    REQUIRE(X509_get_signature_nid(ca) == NID_ecdsa_with_SHA256);
    REQUIRE(X509_get_ext_count(ca) == 3);
    REQUIRE(extension(ca, NID_basic_constraints) == kCaConstraints);
    REQUIRE(extension(ca, NID_key_usage) == kCaUsage);
    REQUIRE(extension(ca, NID_subject_key_identifier) == "0414" + key_identifier(ca));
}

TEST_CASE("a certificate is valid from a little before now, without end") {
    const Bytes der = expect(self_signed_ca(kCaName, ca_key(), kNow));
    const Certificate ca = parsed(der);
    REQUIRE(ASN1_TIME_cmp_time_t(X509_get0_notBefore(ca.get()), kNow - 300) == 0);
    REQUIRE(X509_get0_notAfter(ca.get())->type == V_ASN1_GENERALIZEDTIME);
    REQUIRE(std::string(reinterpret_cast<const char *>(X509_get0_notAfter(ca.get())->data)) == "99991231235959Z");
    REQUIRE(verdict({der}, der) == X509_V_OK);
    REQUIRE(verdict({der}, der, kNow - 299) == X509_V_OK);
    REQUIRE(verdict({der}, der, kNow - 301) == X509_V_ERR_CERT_NOT_YET_VALID);
    REQUIRE(verdict({der}, der, kLastUtc - 1) == X509_V_OK);
}

TEST_CASE("serial numbers are positive, of 20 octets at most, and never the same") {
    std::set<std::string> serials;
    for (int i = 0; i < 50; ++i) {
        const Certificate ca = parsed(expect(self_signed_ca(kCaName, ca_key(), kNow)));
        const ASN1_INTEGER *serial = X509_get0_serialNumber(ca.get());
        REQUIRE(serial->type == V_ASN1_INTEGER);  // not V_ASN1_NEG_INTEGER
        REQUIRE(serial->length == 20);
        REQUIRE(der_of(i2d_ASN1_INTEGER, serial).size() == 22);  // no octet before them for the sign
        serials.insert(to_hex({serial->data, 20}));
    }
    REQUIRE(serials.size() == 50);
}

TEST_CASE("every signature is kept to its last bit") {
    for (int i = 0; i < 50; ++i) {  // half of them end with a bit of 0
        const Bytes der = expect(self_signed_ca(kCaName, ca_key(), kNow));
        REQUIRE(verdict({der}, der) == X509_V_OK);
    }
}

TEST_CASE("a request asks for the certificate that the CA would sign for itself") {
    const Bytes der = expect(ca_request(kCaName, ca_key()));
    const std::uint8_t *at = der.data();
    const CertificateRequest request(d2i_X509_REQ(nullptr, &at, static_cast<long>(der.size())));
    REQUIRE(at == der.data() + der.size());
    REQUIRE(X509_REQ_verify(request.get(), p256()) == 1);
    REQUIRE(X509_REQ_get_version(request.get()) == X509_REQ_VERSION_1);
    REQUIRE(X509_REQ_get_signature_nid(request.get()) == NID_ecdsa_with_SHA256);
    REQUIRE(to_hex(der_of(i2d_X509_NAME, X509_REQ_get_subject_name(request.get()))) == common_name(kCaName));
    REQUIRE(EVP_PKEY_eq(X509_REQ_get0_pubkey(request.get()), p256()) == 1);
    STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(request.get());
    std::string texts;
    for (int i = 0; i < sk_X509_EXTENSION_num(extensions); ++i)
        texts += text_of(sk_X509_EXTENSION_value(extensions, i)) + "\n";
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    const Certificate ca = parsed(expect(self_signed_ca(kCaName, ca_key(), kNow)));
    REQUIRE(texts == fmt::format("{}\n{}\n0414{}\n", kCaConstraints, kCaUsage, key_identifier(ca.get())));
}

TEST_CASE("a CA has a name of 1 to 64 characters") {
    const auto [name, good] = GENERATE(table<std::string, bool>({
        {"", false},
        {std::string(64, 'a'), true},
        {std::string(65, 'a'), false},
        {"vTPMs von \u00fcberwelt", true},
        {"\xff", false},
    }));
    const Result<Bytes> results[] = {self_signed_ca(name, ca_key(), kNow), ca_request(name, ca_key()),
                                     signed_ca_from_pem(view(pem_of(issued({}))), name, ca_key(), kNow)};
    REQUIRE(results[0].has_value() == good);
    REQUIRE(results[1].has_value() == good);
    for (const Result<Bytes> &result : results) REQUIRE((result || result.error().code == ErrorCode::kInvalid));
}

TEST_CASE("a key that does not sign is why there is no certificate") {
    const CaKey key{shared(p256()), [](ByteView) { return fail(ErrorCode::kUnavailable, "the TPM is away"); }};
    for (const auto &result : {self_signed_ca(kCaName, key, kNow), ca_request(kCaName, key)}) {
        REQUIRE(expect_error(result).code == ErrorCode::kUnavailable);
        REQUIRE(expect_error(result).text == "the TPM is away");
    }
}

TEST_CASE("what signs a SHA-256 digest gets one") {
    std::size_t size = 0;
    const CaKey key{shared(p256()), [&](ByteView digest) {
                        size = digest.size();
                        return ecdsa(p256(), digest);
                    }};
    expect(self_signed_ca(kCaName, key, kNow));
    REQUIRE(size == 32);
}

TEST_CASE("a signature that is not the key's over this certificate is found before anyone gets it") {
    const Bytes elsewhere(32, 1);
    static const EvpKey other = ec_key();
    const CaKey keys[] = {
        changed_ca_key([&](const Bytes &) { return *ecdsa(p256(), elsewhere); }),
        changed_ca_key([](const Bytes &) { return Bytes(); }),
        changed_ca_key([](const Bytes &) { return Bytes(70, 0); }),
        changed_ca_key([](const Bytes &) { return Bytes(100'000, 0x30); }),
        changed_ca_key([](Bytes signature) { return signature.pop_back(), signature; }),
        changed_ca_key([](Bytes signature) { return signature.push_back(0), signature; }),
        changed_ca_key([](Bytes signature) { return signature[20] ^= 1, signature; }),
        {shared(p256()), [](ByteView digest) { return ecdsa(other.get(), digest); }},
        {shared(rsa_2048()), [](ByteView digest) { return ecdsa(p256(), digest); }},
    };
    for (const CaKey &key : keys) {
        REQUIRE(expect_error(self_signed_ca(kCaName, key, kNow)).code == ErrorCode::kSystem);
        REQUIRE(expect_error(ca_request(kCaName, key)).code == ErrorCode::kSystem);
    }
}

TEST_CASE("what another CA made of the request is taken as it is") {
    const Bytes der = issued({});
    REQUIRE(expect(imported(pem_of(der))) == der);
    REQUIRE(verdict({der}, root_certificate()) == X509_V_OK);
    REQUIRE(expect(imported("Certificate:\n    Data:\n" + pem_of(der) + "\nbye\n")) == der);  // openssl ca
    std::string pem = pem_of(der);
    for (std::size_t at = 0; (at = pem.find('\n', at)) != std::string::npos; at += 2) pem.insert(at, "\r");
    REQUIRE(expect(imported(pem)) == der);
}

TEST_CASE("another CA may sign with any algorithm that is not weak, and allow more") {
    static const EvpKey p384 = ec_key("P-384");
    static const EvpKey ed25519 = made(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
    const auto change = GENERATE(
        as<void (*)(Issue &)>(),  //
        [](Issue &issue) { issue.signer = p384.get(); },
        [](Issue &issue) {
            issue.signer = ed25519.get();
            issue.digest = nullptr;
        },
        [](Issue &issue) { issue.digest = EVP_sha512(); },
        [](Issue &issue) { issue.constraints = "critical,CA:TRUE,pathlen:3"; },
        [](Issue &issue) { issue.usage = "keyCertSign,cRLSign,digitalSignature"; },
        [](Issue &issue) {
            issue.more = {NID_ext_key_usage, "clientAuth,2.23.133.8.1"};
        },
        [](Issue &issue) {
            issue.more = {NID_ext_key_usage, "anyExtendedKeyUsage"};
        },
        [](Issue &issue) {
            issue.more = {NID_name_constraints, "critical,excluded;DNS:example.org"};
        },
        [](Issue &issue) { issue.to = kNow + 1; }, [](Issue &issue) { issue.from = kNow; });
    expect(imported(pem_of(issued(with(change)))));
}

TEST_CASE("a certificate that cannot stand for the self-signed one is refused, with the reason") {
    static const EvpKey other = ec_key();
    const auto [change, found] = GENERATE(table<void (*)(Issue &), const char *>({
        {[](Issue &issue) { issue.key = other.get(); }, "another key"},
        {[](Issue &issue) { issue.key = rsa_2048(); }, "another key"},
        {[](Issue &issue) { issue.subject = "vTPMs of host-8"; }, "subject"},
        {[](Issue &issue) { issue.subject = "VTPMS of host-7"; }, "subject"},
        {[](Issue &issue) { issue.issuer = kCaName; }, "self-signed"},
        {[](Issue &issue) { issue.constraints = nullptr; }, "not for a CA"},
        {[](Issue &issue) { issue.constraints = issue.usage = issue.identifier = nullptr; }, "copy the request's"},
        {[](Issue &issue) { issue.constraints = "critical,CA:FALSE"; }, "not for a CA"},
        {[](Issue &issue) { issue.constraints = "critical,CA:TRUE,pathlen:-1"; }, "damaged extension"},
        {[](Issue &issue) { issue.usage = nullptr; }, "keyCertSign"},
        {[](Issue &issue) { issue.usage = "critical,cRLSign,digitalSignature"; }, "keyCertSign"},
        {[](Issue &issue) { issue.identifier = nullptr; }, "subjectKeyIdentifier"},
        {[](Issue &issue) { issue.identifier = "0102030405060708090a0b0c0d0e0f1011121314"; }, "subjectKeyIdentifier"},
        {[](Issue &issue) { issue.critical = "1.2.3.4"; }, "critical extension"},
        {[](Issue &issue) { issue.from = kNow + 1; }, "not valid yet"},
        {[](Issue &issue) { issue.to = kNow - 1; }, "expired"},
        {[](Issue &issue) { issue.constraints = "CA:TRUE"; }, "not valid under it"},  // not critical
        {[](Issue &issue) {
             issue.more = {NID_name_constraints, "critical,permitted;dirName:subtree"};
         },
         "permitted subtree"},
        {[](Issue &issue) {
             issue.more = {NID_policy_constraints, "critical,requireExplicitPolicy:0"};
         },
         "policies"},
        {[](Issue &issue) {
             issue.more = {NID_ext_key_usage, "serverAuth,clientAuth"};
         },
         "tcg-kp-EKCertificate"},
        {[](Issue &issue) { issue.digest = EVP_sha1(); }, "weak"},
        {[](Issue &issue) { issue.digest = EVP_md5(); }, "weak"},
    }));
    REQUIRE_THAT(refusal(with(change)), Contains(found) && Contains("no certificate for this host's CA"));
}

namespace {

// A CA between the root and ours, with its own key.
Issue between(const char *subject, EVP_PKEY *key, const char *issuer = "root", EVP_PKEY *signer = rsa_2048()) {
    Issue issue;
    issue.subject = subject;
    issue.key = key;
    issue.issuer = issuer;
    issue.signer = signer;
    issue.constraints = "critical,CA:TRUE";
    return issue;
}

// Each key identifies its issuer's, where one is given.
struct Chain {
    EvpKey upper_key = ec_key();
    EvpKey lower_key = ec_key();
    Bytes upper = issued(between("upper", upper_key.get()));
    Bytes lower = issued(below(between("lower", lower_key.get(), "upper", upper_key.get()), upper));
    Bytes own = issued(below(between(kCaName, p256(), "lower", lower_key.get()), lower));

    static Issue below(Issue issue, const Bytes &issuer) {
        issue.authority = issuer;
        return issue;
    }
};

Bytes joined(std::initializer_list<Bytes> parts) {
    Bytes all;
    for (const Bytes &part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
}

}  // namespace

TEST_CASE("the certificates that lead from a CA's to the root are taken with it, in any order, without the root") {
    const Chain chain;
    const Bytes all = joined({chain.own, chain.lower, chain.upper});
    const std::string own = pem_of(chain.own);
    const std::string lower = pem_of(chain.lower);
    const std::string upper = pem_of(chain.upper);
    REQUIRE(expect(imported(own + lower + upper)) == all);
    REQUIRE(expect(imported(upper + "Certificate:\n" + lower + own + pem_of(root_certificate()))) == all);
    REQUIRE(expect(imported(own + lower)) == joined({chain.own, chain.lower}));
    REQUIRE(expect(imported(own)) == chain.own);
    const Bytes below_root = issued({});
    REQUIRE(expect(imported(pem_of(below_root) + pem_of(root_certificate()))) == below_root);
}

TEST_CASE("certificates that do not lead on from the CA's are refused, with the reason") {
    const Chain chain;
    const std::string own = pem_of(chain.own);
    const std::string lower = pem_of(chain.lower);
    REQUIRE_THAT(refusal(own + pem_of(chain.upper)), Contains("CN=upper") && Contains("does not lead to"));
    REQUIRE_THAT(refusal(own + lower + lower), Contains("CN=lower") && Contains("does not lead to"));
    REQUIRE_THAT(refusal(lower + pem_of(chain.upper)), Contains("each of its 2 certificates is for another key"));

    static const EvpKey other = ec_key();
    Issue forged = between("lower", chain.lower_key.get(), "upper", other.get());
    forged.authority = chain.upper;
    REQUIRE_THAT(refusal(own + pem_of(issued(forged)) + pem_of(chain.upper)), Contains("signature"));
    Issue expired = between("lower", chain.lower_key.get(), "upper", chain.upper_key.get());
    expired.authority = chain.upper;
    expired.to = kNow - 1;
    REQUIRE_THAT(refusal(own + pem_of(issued(expired)) + pem_of(chain.upper)), Contains("expired"));
    Issue narrow = between("lower", chain.lower_key.get(), "upper", chain.upper_key.get());
    narrow.authority = chain.upper;
    narrow.constraints = "critical,CA:TRUE,pathlen:0";
    REQUIRE_THAT(refusal(own + pem_of(issued(narrow)) + pem_of(chain.upper)), Contains("path length"));
}

TEST_CASE("no more certificates are taken than a vTPM has room for") {
    const std::string names(7000, 'a');
    Issue issue;
    const std::string policy = "URI:http://example.org/" + names;
    issue.more = {NID_crl_distribution_points, policy.c_str()};
    expect(imported(pem_of(issued(issue))));
    const std::string more = policy + std::string(1500, 'a');
    issue.more = {NID_crl_distribution_points, more.c_str()};
    REQUIRE_THAT(refusal(issue), Contains("8192") && Contains("have a smaller one issued"));
}

TEST_CASE("a subject in another encoding is another subject, as a verifier that compares bytes sees it") {
    const Certificate certificate = parsed(issued({}));
    X509_NAME *const name = X509_NAME_new();
    X509_NAME_add_entry_by_txt(name, "CN", V_ASN1_PRINTABLESTRING, view(kCaName).data(), -1, -1, 0);
    X509_set_subject_name(certificate.get(), name);
    X509_NAME_free(name);
    REQUIRE(X509_sign(certificate.get(), rsa_2048(), EVP_sha256()) > 0);
    REQUIRE_THAT(refusal(pem_of(der_of(i2d_X509, certificate.get()))), Contains("letter for letter"));
}

TEST_CASE("the key with its curve spelt out, or compressed, is another") {
    Issue issue;
    const EvpKey compressed(EVP_PKEY_dup(p256()));
    EVP_PKEY_set_utf8_string_param(compressed.get(), OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, "compressed");
    issue.key = compressed.get();
    REQUIRE_THAT(refusal(issue), Contains("another key"));
}

TEST_CASE("a file that is no certificate is refused, and what it is is said") {
    const std::string pem = pem_of(issued({}));
    REQUIRE_THAT(refusal(""), Contains("no PEM file"));
    REQUIRE_THAT(refusal(std::string("\0\xff\x01", 3)), Contains("no PEM file"));
    REQUIRE_THAT(refusal(std::string(1 << 20, 'A')), Contains("1048576 bytes"));
    REQUIRE_THAT(refusal(public_pem(p256())), Contains("'PUBLIC KEY'"));
    REQUIRE_THAT(refusal(to_pem("CERTIFICATE REQUEST", expect(ca_request(kCaName, ca_key())))),
                 Contains("'CERTIFICATE REQUEST'"));
    REQUIRE_THAT(refusal(to_pem("TRUSTED CERTIFICATE", issued({}))), Contains("'TRUSTED CERTIFICATE'"));
    REQUIRE_THAT(refusal(pem + pem), Contains("leave it out"));
    REQUIRE_THAT(refusal(public_pem(p256()) + pem), Contains("'PUBLIC KEY'"));
    REQUIRE_THAT(refusal(pem + public_pem(p256())), Contains("'PUBLIC KEY'"));
    REQUIRE_THAT(refusal(pem + pem.substr(0, 100)), Contains("damaged"));
    REQUIRE_THAT(refusal(to_pem("CERTIFICATE", {})), Contains("damaged"));
    REQUIRE_THAT(refusal(to_pem("CERTIFICATE", Bytes(100, 0x30))), Contains("damaged"));
    Bytes longer = issued({});
    longer.push_back(0);
    REQUIRE_THAT(refusal(pem_of(longer)), Contains("damaged"));
    const std::string header = "-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n";
    refusal(header + pem.substr(pem.find('\n') + 1));
}

TEST_CASE("a PEM file of a certificate, cut at any byte, is refused") {
    const std::string pem = pem_of(issued({}));
    for (std::size_t size = 0; size + 1 < pem.size(); ++size) refusal(pem.substr(0, size));
}

TEST_CASE("a certificate cut at any byte is refused") {
    const Bytes der = issued({});
    for (std::size_t size = 0; size < der.size(); ++size)
        REQUIRE_THAT(refusal(pem_of(Bytes(der.begin(), der.begin() + static_cast<std::ptrdiff_t>(size)))),
                     Contains("damaged"));
}

// Without the other CA's key, a change that makes another good certificate cannot be seen.
TEST_CASE("whichever byte of a certificate is changed, it is refused or still this CA's") {
    const Bytes der = issued({});
    for (std::size_t at = 0; at < der.size(); ++at)
        for (const std::uint8_t change : Bytes{0x01, 0x80, 0xff}) {
            Bytes changed = der;
            changed[at] ^= change;
            const auto result = imported(pem_of(changed));
            if (!result) {
                REQUIRE(result.error().code == ErrorCode::kInvalid);
                continue;
            }
            REQUIRE(*result == changed);
            REQUIRE(subject_of(parsed(*result).get()) == common_name(kCaName));
            REQUIRE(EVP_PKEY_eq(X509_get0_pubkey(parsed(*result).get()), p256()) == 1);
        }
}

TEST_CASE("PEM is written as OpenSSL writes it") {
    for (const std::size_t size : {0U, 1U, 47U, 48U, 49U, 96U, 500U}) {
        const Bytes der(size, 0x5a);
        REQUIRE(to_pem("CERTIFICATE", der) == written([&](BIO *bio) {
                    return PEM_write_bio(bio, "CERTIFICATE", "", der.data(), static_cast<long>(size)) >= 0 ? 1 : 0;
                }));
    }
}

}  // namespace vtpm::ca_test
