// SPDX-License-Identifier: Apache-2.0
#include "manager/attestation/enrolment.hpp"

#include <tss2/tss2_mu.h>

#include "certificates.hpp"
#include "fake_attestation.hpp"
#include "manager/crypto/pem.hpp"
#include "revocation.hpp"

namespace vtpm::enrolment_test {

namespace {

// A TPM whose endorsement key OpenSSL has.
Bytes endorsement_area(EVP_PKEY *key) {
    const Bytes form = ek_template(EkTemplate::kEccP256);
    TPM2B_PUBLIC area{};
    std::size_t at = 0;
    REQUIRE(Tss2_MU_TPM2B_PUBLIC_Unmarshal(form.data(), form.size(), &at, &area) == TSS2_RC_SUCCESS);
    area.publicArea.unique = public_area_of(key).value().unique;
    area.size = 0;
    return marshalled(area);
}

EVP_PKEY *ek() {
    static const EvpKey key = ec_key();
    return key.get();
}

constexpr const char *kCaUsage = "critical,keyCertSign,cRLSign";

// Between the root and TPMs; its key is p256().
Issue between() {
    Issue issue;
    issue.subject = "between";
    issue.usage = kCaUsage;
    return issue;
}

// A TPM's, by that CA.
Issue leaf(const Bytes &ca) {
    Issue issue;
    issue.subject = "a TPM";
    issue.issuer = "between";
    issue.key = ek();
    issue.signer = p256();
    issue.constraints = "critical,CA:FALSE";
    issue.usage = "critical,keyAgreement";
    issue.authority = ca;
    return issue;
}

template <typename Change>
Bytes changed(Issue issue, Change change) {
    change(issue);
    return issued(issue);
}

const Bytes &root() {
    static const Bytes der = [] {
        Issue issue;
        issue.subject = "root";
        issue.key = rsa_2048();
        issue.constraints = "critical,CA:TRUE";
        issue.usage = kCaUsage;
        return issued(issue);
    }();
    return der;
}
const Bytes &good_ca() {
    static const Bytes der = issued(between());
    return der;
}
const Bytes &good_leaf() {
    static const Bytes der = issued(leaf(good_ca()));
    return der;
}

HostIdentity host(const Bytes &certificate, const std::vector<Bytes> &chain) {
    HostIdentity identity{endorsement_area(ek()), certificate, FakeAttestation().public_area(), {}};
    for (const Bytes &one : chain)
        identity.endorsement_chain.insert(identity.endorsement_chain.end(), one.begin(), one.end());
    return identity;
}

Makers makers(const Bytes &trusted, const std::vector<Bytes> &lists = {}) {
    Makers makers;
    makers.certificates.push_back(parsed(trusted));
    for (const Bytes &list : lists)
        for (RevocationList &one : expect(revocation_lists_from_file(std::string(list.begin(), list.end()))))
            makers.revoked.push_back(std::move(one));
    return makers;
}

// Empty: there is a challenge.
std::string refusal(const HostIdentity &identity, Makers trusted) {
    const auto made = challenge(identity, std::optional(std::move(trusted)), kNow);
    if (made) return {};
    REQUIRE(made.error().code == ErrorCode::kRefused);
    return made.error().text;
}

}  // namespace

TEST_CASE("a TPM's certificate leads to a maker that is trusted by certificates that nobody trusts, or is refused") {
    const auto with_purpose = [](const char *purpose) {
        return changed(leaf(good_ca()), [&](Issue &i) { i.more = {NID_ext_key_usage, purpose}; });
    };
    const Bytes expired = changed(between(), [](Issue &i) { i.to = kNow - 1; });
    const Bytes stranger = changed(between(), [](Issue &i) { i.key = ek(); });
    const Bytes no_ca = changed(between(), [](Issue &i) { i.constraints = "critical,CA:FALSE"; });
    const Bytes by_nobody = changed(between(), [](Issue &i) { i.signer = p256(); });
    const struct {
        const char *what;
        Bytes certificate;
        std::vector<Bytes> chain;
        std::string error;
    } rows[] = {
        {"as it must be", good_leaf(), {good_ca()}, ""},
        {"with the root, and a stranger beside", good_leaf(), {stranger, root(), good_ca()}, ""},
        {"for endorsement keys", with_purpose("2.23.133.8.1"), {good_ca()}, ""},
        {"for endorsement keys and more", with_purpose("serverAuth,2.23.133.8.1"), {good_ca()}, ""},
        {"for servers", with_purpose("serverAuth"), {good_ca()}, "another purpose"},
        {"for platforms", with_purpose("2.23.133.8.2"), {good_ca()}, "another purpose"},
        {"for anything", with_purpose("anyExtendedKeyUsage"), {good_ca()}, "another purpose"},
        {"without a chain", good_leaf(), {}, "unable to get local issuer certificate"},
        {"with an expired CA", good_leaf(), {expired}, "certificate has expired (of CN=between)"},
        {"with a stranger of the CA's name", good_leaf(), {stranger}, "does not lead to the makers"},
        {"with one that is no CA", good_leaf(), {no_ca}, "(of CN=between)"},
        {"with a CA that the root did not sign", good_leaf(), {by_nobody}, "does not lead to the makers"},
        {"of a CA",
         changed(leaf(good_ca()), [](Issue &i) { i.constraints = "critical,CA:TRUE"; }),
         {good_ca()},
         "is a CA's"},
        {"for another key",
         changed(leaf(good_ca()), [](Issue &i) { i.key = p256(); }),
         {good_ca()},
         "is not for its endorsement key"},
        {"expired",
         changed(leaf(good_ca()), [](Issue &i) { i.to = kNow - 1; }),
         {good_ca()},
         "certificate has expired"},
        {"with something else in the chain", good_leaf(), {good_ca(), Bytes(10, 0x30)}, "the chain of the TPM's"},
    };
    for (const auto &row : rows) {
        CAPTURE(row.what);
        const std::string error = refusal(host(row.certificate, row.chain), makers(root()));
        REQUIRE(error.empty() == row.error.empty());
        REQUIRE_THAT(error, Contains(row.error));
    }
}

TEST_CASE("with revocation lists, no certificate below the trusted one is taken that they have, or do not cover") {
    const Bytes of_root = revocation_list(root(), rsa_2048(), {});
    const Bytes of_ca = revocation_list(good_ca(), p256(), {});
    const Bytes ca_revoked = revocation_list(root(), rsa_2048(), {good_ca()});
    const Bytes leaf_revoked = revocation_list(good_ca(), p256(), {good_leaf()});
    const Bytes old = revocation_list(good_ca(), p256(), {}, kNow - 1);
    const Bytes forged = revocation_list(good_ca(), ek(), {});
    const struct {
        const char *what;
        Bytes trusted;
        std::vector<Bytes> lists;
        std::string error;
    } rows[] = {
        {"nobody asks", root(), {}, ""},
        {"neither is revoked", root(), {of_root, of_ca}, ""},
        {"the CA is revoked", root(), {ca_revoked, of_ca}, "certificate revoked (of CN=between)"},
        {"the TPM's is revoked", root(), {of_root, leaf_revoked}, "certificate revoked"},
        {"no list of the CA", root(), {of_root}, "unable to get certificate CRL"},
        {"no list of the root", root(), {of_ca}, "unable to get certificate CRL (of CN=between)"},
        {"a list that is too old", root(), {of_root, old}, "CRL has expired"},
        {"a list of somebody else", root(), {of_root, forged}, "CRL signature failure"},
        {"the CA is trusted itself", good_ca(), {of_ca}, ""},
        {"the CA is trusted itself, and revoked the TPM's", good_ca(), {leaf_revoked}, "certificate revoked"},
    };
    for (const auto &row : rows) {
        CAPTURE(row.what);
        const std::string error = refusal(host(good_leaf(), {good_ca(), root()}), makers(row.trusted, row.lists));
        REQUIRE(error.empty() == row.error.empty());
        REQUIRE_THAT(error, Contains(row.error));
    }
}

TEST_CASE("an identity has the chain in its file, and is read without one") {
    for (const std::vector<Bytes> &chain : {std::vector<Bytes>{}, {good_ca(), root()}}) {
        const HostIdentity identity = host(good_leaf(), chain);
        const HostIdentity read = expect(parse_host_identity(to_json(identity)));
        REQUIRE(read.endorsement_certificate == identity.endorsement_certificate);
        REQUIRE(read.endorsement_chain == identity.endorsement_chain);
        REQUIRE(read.attestation_key == identity.attestation_key);
    }
    REQUIRE_THAT(expect_error(parse_host_identity(to_json(host(good_leaf(), {Bytes(24'577)})))).text,
                 Contains("'endorsement_chain'"));
}

TEST_CASE("a certificate from a file takes the place of the TPM's, if it is for its key") {
    HostIdentity identity = host({}, {});
    REQUIRE_THAT(refusal(identity, makers(root())), Contains("--ek-certificate"));
    const std::string file = to_pem("CERTIFICATE", good_leaf()) + to_pem("CERTIFICATE", good_ca());
    const auto certificates = expect(certificates_from_file(file));
    REQUIRE(expect(certified_template(certificates[0].get())) == EkTemplate::kEccP256);
    REQUIRE(expect(certified_template(parsed(root()).get())) == EkTemplate::kRsa2048);
    expect(use_certificate(identity, certificates));
    REQUIRE(refusal(identity, makers(root())).empty());
    // As makers give it out, in DER.
    expect(
        use_certificate(identity, expect(certificates_from_file(std::string(good_leaf().begin(), good_leaf().end())))));
    REQUIRE(identity.endorsement_chain.empty());
    REQUIRE(
        expect_error(use_certificate(identity, expect(certificates_from_file(to_pem("CERTIFICATE", root()))))).code ==
        ErrorCode::kRefused);
    REQUIRE(identity.endorsement_certificate == good_leaf());
    for (const char *wrong : {"", "-----BEGIN CERTIFICATE-----\n", "nothing"}) {
        REQUIRE(expect_error(certificates_from_file(wrong)).code == ErrorCode::kInvalid);
        REQUIRE(expect_error(revocation_lists_from_file(wrong)).code == ErrorCode::kInvalid);
    }
}

TEST_CASE("the certificates of a chain are found in NV indices, whatever lies between and behind them") {
    const Bytes ca = good_ca();
    const Bytes top = root();
    const auto joined = [](std::vector<Bytes> parts) {
        Bytes all;
        for (const Bytes &part : parts) all.insert(all.end(), part.begin(), part.end());
        return all;
    };
    const Bytes first(ca.begin(), ca.begin() + 100);
    const Bytes rest(ca.begin() + 100, ca.end());
    const Bytes both = joined({ca, top});
    const struct {
        const char *what;
        std::vector<Bytes> contents;
        Bytes certificates;
    } rows[] = {
        {"none", {}, {}},
        {"one index each", {ca, top}, both},
        {"all in one", {both}, both},
        {"one that goes on in the next index", {first, joined({rest, top})}, both},
        {"byte by byte", {Bytes(ca.begin(), ca.begin() + 1), Bytes(ca.begin() + 1, ca.end())}, ca},
        {"padding", {joined({ca, Bytes(50, 0xff)}), joined({top, Bytes(50, 0)})}, both},
        {"an index that is empty", {ca, {}, Bytes(10, 0), top}, both},
        {"an index that has something else", {Bytes(100, 0x41), ca}, ca},
        {"one that ends early", {ca, Bytes(top.begin(), top.end() - 1)}, ca},
        {"one that is damaged", {Bytes(ca.size(), 0x30), top}, top},
    };
    for (const auto &row : rows) {
        CAPTURE(row.what);
        REQUIRE(certificates_in_indices(row.contents) == row.certificates);
    }
}

}  // namespace vtpm::enrolment_test
