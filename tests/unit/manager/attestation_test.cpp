// SPDX-License-Identifier: Apache-2.0
#include "manager/attestation/attestation.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "certificates.hpp"
#include "fake_attestation.hpp"
#include "fake_signing_keys.hpp"
#include "launch/event_log.hpp"
#include "manager/attestation/verification.hpp"
#include "manager/boot/boot_policy.hpp"
#include "manager/ca/ca_certificate.hpp"
#include "manager/ca/ek_certificate.hpp"
#include "manager/crypto/pem.hpp"

namespace vtpm::attestation_test {
using nlohmann::ordered_json;

namespace {

const Uuid kVtpm = *Uuid::parse("4a1c3b2e-9f6d-4f0e-8a57-2d1b3c4e5f60");

EndorsementKey ek_of(EVP_PKEY *key, EkTemplate kind) {
    TPM2B_PUBLIC area{};
    std::size_t consumed = 0;
    const Bytes form = ek_template(kind);
    REQUIRE(Tss2_MU_TPM2B_PUBLIC_Unmarshal(form.data(), form.size(), &consumed, &area) == TSS2_RC_SUCCESS);
    area.publicArea.unique = expect(public_area_of(key)).unique;
    return expect(endorsement_key(marshalled(TPM2B_PUBLIC{0, area.publicArea})));
}

// A host whose TPM is OpenSSL, its group's CA, one vTPM; and who verifies.
struct Host {
    FakeAttestation tpm;
    FakeSigningKeys keys;
    TpmKey ca = expect(keys.create({}));
    std::string approver_pem = public_pem(rsa_2048());
    BootApproval approval{"tenant", expect(PcrSelection::parse("sha256:4,7")), values(), std::nullopt, 3};
    PcrSelection quoted = expect(PcrSelection::parse("sha256:0,4,7"));
    std::int64_t now = kNow;

    static PcrValues values() { return {{4, Bytes(32, 4)}, {7, Bytes(32, 7)}}; }

    [[nodiscard]] CaKey ca_key() {
        const auto area = area_of_form(ca.public_area, ca_key_form());
        return {openssl_key(area.value()), [this](ByteView digest) { return keys.sign(ca, {}, digest); }};
    }
    Attestation unsigned_attestation() {
        Attestation made;
        made.nonce = Bytes(16, 0x4e);
        made.vtpm = kVtpm;
        made.group = "tenant";
        made.generation = 3;
        made.approver = expect(ApproverKey::from_pem(approver_pem)).fingerprint();
        made.boot_policy = expect(BootPolicy::sign(view(private_pem(rsa_2048())), approval)).to_json();
        made.pcrs = quoted;
        made.ca_key = ca.public_area;
        made.ca_certificate = expect(self_signed_ca("xen-vtpm CA", ca_key(), now));
        const TpmDescription description{"id:49424D00", "SW", "id:20191023", 159};
        static const EvpKey second = ec_key();
        for (const auto &[key, kind] :
             {std::pair(rsa_2048(), EkTemplate::kRsa2048), std::pair(second.get(), EkTemplate::kEccP256)}) {
            const EndorsementKey ek = ek_of(key, kind);
            made.endorsement_keys.push_back(
                {marshalled(TPM2B_PUBLIC{0, ek.area}),
                 expect(ek_certificate(ek, kVtpm, description, made.ca_certificate, ca_key(), now))});
        }
        return made;
    }
    // What the TPM says of what `made` has; over its bound data, unless that is said.
    void attest(Attestation &made, const std::optional<Bytes> &bound = std::nullopt) {
        PcrValues present;
        for (const unsigned pcr : quoted.numbers()) present[pcr] = Bytes(32, static_cast<std::uint8_t>(pcr));
        made.host = tpm.attest(quoted, std::move(present), ca, bound ? *bound : expect(made.bound_data()));
    }
    Attestation attestation() {
        Attestation made = unsigned_attestation();
        attest(made);
        return made;
    }
    Trust trust() {
        Trust trust;
        trust.nonce = Bytes(16, 0x4e);
        trust.attestation_key = tpm.public_area();
        trust.approver = expect(ApproverKey::from_pem(approver_pem));
        trust.now = now;
        return trust;
    }
};

// A host's word that the vTPM was given this log.
void tell_launch(Host &host, Attestation &made, const launch::EventLog &log) {
    made.event_log = expect(launch::write_event_log(log));
    made.event_log_digest =
        expect(launch::digests_of(made.event_log, {launch::Hash::kSha256})).at(launch::Hash::kSha256);
    host.attest(made);
}

// The names of the checks that fail.
std::vector<std::string> failures(const Attestation &attestation, const Trust &trust) {
    std::vector<std::string> names;
    for (const Check &check : verify(attestation, trust))
        if (!check.problem.empty()) names.push_back(check.what);
    return names;
}
using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("an attestation that is true holds, and is the same read from its file") {
    Host host;
    const Attestation made = host.attestation();
    REQUIRE(failures(made, host.trust()).empty());
    const Attestation read = expect(Attestation::parse(made.to_json()));
    REQUIRE(read.to_json() == made.to_json());
    REQUIRE(failures(read, host.trust()).empty());
}

TEST_CASE("no bit of an attestation's file can be another one") {
    Host host;
    host.approver_pem = public_pem(p256());
    const std::string original = [&] {
        Attestation made = host.unsigned_attestation();
        made.boot_policy = expect(BootPolicy::sign(view(private_pem(p256())), host.approval)).to_json();
        host.attest(made);
        return made.to_json();
    }();
    const Trust trust = host.trust();
    REQUIRE(failures(expect(Attestation::parse(original)), trust).empty());
    for (std::size_t at = 0; at < original.size(); at += 11) {  // of all, the run took a minute
        std::string changed = original;
        changed[at] = static_cast<char>(changed[at] ^ (1 << (at % 7)));
        CAPTURE(at, changed.substr(at > 20 ? at - 20 : 0, 40));
        const auto parsed = Attestation::parse(changed);
        if (parsed) REQUIRE_FALSE(failures(*parsed, trust).empty());
    }
}

TEST_CASE("a launch's command line is told to its end, whatever is in it and whatever banks the vTPM has") {
    Host host;
    const std::string long_line = "root=/dev/xvda1 ro" + std::string(900, 'x') + " init=/bin/sh";
    const std::pair<std::string, std::string> lines[] = {
        {"ro", "ro"}, {long_line, long_line}, {"\xc3\xbc\t\xc3\xb6\n\x1b[2J", "???????[2J"}, {"", ""}};
    for (const launch::Hash bank : launch::kAllHashes)
        for (const auto &[line, told] : lines) {
            launch::MeasuredLaunch measured;
            measured.banks = {bank};
            measured.image.digests = expect(launch::digests_of(Bytes{'k'}, measured.banks));
            measured.command_line = line;
            Attestation made = host.unsigned_attestation();
            tell_launch(host, made, {measured.banks, expect(launch::launch_events(measured))});
            const std::vector<Check> checks = verify(made, host.trust());
            REQUIRE(checks.back().what == "launch");
            CHECK(checks.back().detail == "measured; command line '" + told + "'");
        }
}

TEST_CASE("a command line that its event's digest is not over is not told as the one that was measured") {
    Host host;
    launch::MeasuredLaunch measured;
    measured.banks = {launch::Hash::kSha256, launch::Hash::kSha384};
    measured.image.digests = expect(launch::digests_of(Bytes{'k'}, measured.banks));
    measured.command_line = "init=/bin/sh";
    launch::Events events = expect(launch::launch_events(measured));
    const std::string told = "kernel_cmdline: ro";
    std::ranges::find(events, 8U, &launch::Event::pcr)->data = Bytes(told.begin(), told.end());
    Attestation made = host.unsigned_attestation();
    tell_launch(host, made, {measured.banks, events});
    REQUIRE(verify(made, host.trust()).back().detail == "nobody measured it");
}

TEST_CASE("a log of the host's PCRs alone is no launch, whatever PCRs the verifier asks for") {
    Host host;
    const launch::Banks banks{launch::Hash::kSha256};
    Attestation made = host.unsigned_attestation();
    tell_launch(host, made, {banks, {expect(launch::host_event(4, Bytes(32, 4), banks))}});
    Trust trust = host.trust();
    REQUIRE(failures(made, trust).empty());
    trust.launch_pcrs = expect(PcrSelection::parse("sha256:12"));
    trust.launch = {{12, Bytes(32)}};  // of a UKI whose command line is its own
    REQUIRE(failures(made, trust) == Names{"launch"});
}

TEST_CASE("what a verifier knows decides") {
    Host host;
    const Attestation made = host.attestation();
    Trust trust = host.trust();
    SECTION("the nonce") {
        trust.nonce.back() ^= 1;
        REQUIRE(failures(made, trust) == Names{"nonce"});
    }
    SECTION("the vTPM") {
        trust.vtpm = Uuid::random();
        REQUIRE(failures(made, trust) == Names{"vTPM"});
    }
    SECTION("the group, and the generation of its key") {
        trust.group = made.group;
        trust.min_generation = made.generation;
        REQUIRE(failures(made, trust).empty());
        ++trust.min_generation;  // the approver's word for the former one, which is right, does not help
        REQUIRE(failures(made, trust) == Names{"group"});
        trust.min_generation = 1;
        trust.group += "-2";
        REQUIRE(failures(made, trust) == Names{"group"});
    }
    SECTION("the host's TPM") {
        trust.attestation_key = FakeAttestation().public_area();
        REQUIRE(failures(made, trust) == Names{"attestation key", "host quote", "CA key"});
    }
    SECTION("a key that could sign anything is no attestation key") {
        TPM2B_PUBLIC area{0, ca_key_form()};
        area.publicArea.unique = expect(public_area_of(host.tpm.key.get())).unique;
        trust.attestation_key = marshalled(area);
        REQUIRE(failures(made, trust) == Names{"attestation key", "host quote", "CA key"});
    }
    SECTION("the approver") {
        trust.approver = expect(ApproverKey::from_pem(public_pem(rsa_3072())));
        REQUIRE(failures(made, trust) == Names{"boot"});
    }
    SECTION("the PCRs") {
        trust.pcrs = expect(PcrSelection::parse("sha256:7"));
        trust.values = {{7, Bytes(32, 7)}};
        REQUIRE(failures(made, trust).empty());
        trust.values = {{7, Bytes(32, 8)}};
        REQUIRE(failures(made, trust) == Names{"boot"});
    }
    SECTION("PCRs that were not quoted, or of another bank") {
        const char *const pcrs = GENERATE("sha256:8", "sha1:7");
        trust.pcrs = expect(PcrSelection::parse(pcrs));
        trust.values = {{trust.pcrs.numbers().front(), Bytes(32, 7)}};
        REQUIRE(failures(made, trust) == Names{"boot"});
    }
    SECTION("the time") {
        trust.now = kNow - 86'400;  // before the certificates
        REQUIRE(failures(made, trust) == Names{"endorsement keys"});
    }
}

TEST_CASE("what the host's TPM says of itself is told if its quote holds") {
    Host host;
    Attestation made = host.attestation();
    const TPMS_ATTEST quote = expect(host_quote(made, host.trust()));
    REQUIRE(quote.clockInfo.clock == 123'456);
    REQUIRE(quote.clockInfo.resetCount == 7);
    REQUIRE(quote.clockInfo.restartCount == 2);
    REQUIRE(quote.firmwareVersion == 0x2019102300163636);
    ++made.generation;  // which the quote is bound to
    REQUIRE(expect_error(host_quote(made, host.trust())).code == ErrorCode::kRefused);
}

TEST_CASE("a boot policy approves its own group's boots only, and while it lasts") {
    Host host;
    const auto with = [&](const BootApproval &approval, EVP_PKEY *signer = rsa_2048()) {
        Attestation made = host.attestation();
        made.boot_policy = expect(BootPolicy::sign(view(private_pem(signer)), approval)).to_json();
        return failures(made, host.trust());
    };
    REQUIRE(with(host.approval).empty());
    BootApproval other = host.approval;
    SECTION("another group's") { other.group = "other"; }
    SECTION("a former key's") { other.generation = 2; }
    SECTION("another boot's") { other.values[7] = Bytes(32, 9); }
    SECTION("one that has expired") { other.not_after = kNow - 1; }
    SECTION("with a PCR that was not quoted") {
        other.pcrs = expect(PcrSelection::parse("sha256:7,9"));
        other.values = {{7, Bytes(32, 7)}, {9, Bytes(32, 9)}};
    }
    SECTION("another approver's") {
        REQUIRE(with(other, p256()) == Names{"boot"});
        return;
    }
    REQUIRE(with(other) == Names{"boot"});
}

TEST_CASE("a TPM that does not say it, or says something else, attests nothing") {
    Host host;
    Attestation made = host.unsigned_attestation();
    Names failing;
    SECTION("structures that no TPM made") {
        host.tpm.magic = 0x1234;
        failing = {"host quote", "CA key"};
    }
    SECTION("a statement of another kind") {
        host.tpm.quote_type = TPM2_ST_ATTEST_TIME;
        failing = {"host quote"};
    }
    SECTION("another key is certified") {
        host.tpm.certified_name = Bytes(34, 0);
        failing = {"CA key"};
    }
    SECTION("the CA's key could have left the TPM") {
        const TpmKey real = host.ca;
        TPM2B_PUBLIC area{0, ca_key_form()};
        area.publicArea.unique = area_of_form(real.public_area, ca_key_form())->unique;
        area.publicArea.objectAttributes &= ~static_cast<TPMA_OBJECT>(TPMA_OBJECT_FIXEDTPM);
        made.ca_key = marshalled(area);
        host.attest(made, Bytes(32, 0));
        REQUIRE(failures(made, host.trust()) == Names{"host quote", "CA key"});
        return;
    }
    SECTION("the quote is of fewer PCRs") {
        host.quoted = expect(PcrSelection::parse("sha256:4,7"));
        failing = {"host quote"};
    }
    host.attest(made);
    REQUIRE(failures(made, host.trust()) == failing);
}

// Each of these in the place of the right one, and the quote still over the right ones.
TEST_CASE("what is not bound by the quote does not pass") {
    Host host;
    Attestation made = host.attestation();
    SECTION("another vTPM") {
        made.vtpm = Uuid::random();
        REQUIRE(failures(made, host.trust()) == Names{"host quote", "CA key", "endorsement keys"});
    }
    SECTION("another group") {
        made.group = "other";
        REQUIRE(failures(made, host.trust()) == Names{"host quote", "CA key", "boot"});
    }
    SECTION("a key less, or in another order") {
        const bool less = GENERATE(true, false);
        std::ranges::reverse(made.endorsement_keys);
        if (less) made.endorsement_keys.pop_back();
        REQUIRE(failures(made, host.trust()) == Names{"host quote", "CA key"});
    }
    SECTION("none") {
        made.endorsement_keys.clear();
        REQUIRE(failures(made, host.trust()) == Names{"host quote", "CA key", "endorsement keys"});
    }
    SECTION("without the approver") {
        made.approver.clear();
        REQUIRE(failures(made, host.trust()) == Names{"host quote", "CA key", "boot"});
    }
    SECTION("a nonce that was answered before") {
        made.nonce = Bytes(16, 0x4f);
        Trust trust = host.trust();
        trust.nonce = made.nonce;
        REQUIRE(failures(made, trust) == Names{"host quote", "CA key"});
    }
    SECTION("another CA, though it certified the keys") {
        Host other;
        other.tpm = host.tpm;
        const Attestation others = other.unsigned_attestation();
        made.ca_key = others.ca_key;
        made.ca_certificate = others.ca_certificate;
        made.endorsement_keys = others.endorsement_keys;
        REQUIRE(failures(made, host.trust()) == Names{"host quote", "CA key"});
    }
    SECTION("a CA's certificate for another key") {
        made.ca_certificate = expect(self_signed_ca("xen-vtpm CA", ca_key(), host.now));
        REQUIRE(failures(made, host.trust()) == Names{"host quote", "CA key", "endorsement keys"});
    }
}

TEST_CASE("the endorsement keys of a vTPM that came from elsewhere are by a CA that the verifier names") {
    Host former;
    Host host;
    Attestation made = host.unsigned_attestation();
    const Attestation there = former.unsigned_attestation();
    made.endorsement_keys = there.endorsement_keys;
    host.attest(made);
    Trust trust = host.trust();
    REQUIRE(failures(made, trust) == Names{"endorsement keys"});
    trust.former_cas = expect(certificates_from_pem(to_pem("CERTIFICATE", there.ca_certificate)));
    REQUIRE(failures(made, trust).empty());
}

TEST_CASE("a file that is no attestation is told so") {
    Host host;
    const std::string good = host.attestation().to_json();
    const auto error = [](const std::string &text) { return expect_error(Attestation::parse(text)); };
    REQUIRE_THAT(error("hello").text, Contains("an attestation is a JSON object"));
    REQUIRE_THAT(error("{}").text, Contains("'format'"));
    const auto with = [&](const std::string &field, const ordered_json &value) {
        ordered_json document = ordered_json::parse(good);
        document[field] = value;
        return document.dump();
    };
    REQUIRE_THAT(error(with("format", "xen-vtpm-attestation-2")).text, Contains("xen-vtpm-attestation-1"));
    REQUIRE_THAT(error(with("surprise", 1)).text, Contains("no field 'surprise'"));
    REQUIRE_THAT(error(with("nonce", "00")).text, Contains("8 to 64"));
    REQUIRE_THAT(error(with("vtpm", "x")).text, Contains("UUID"));
    REQUIRE_THAT(error(with("quote", "!")).text, Contains("base64"));
    REQUIRE_THAT(error(with("endorsement_keys", 7)).text, Contains("array"));
    REQUIRE_THAT(error(with("endorsement_keys", ordered_json::array({1}))).text, Contains("objects"));
    REQUIRE_THAT(
        error(with("endorsement_keys", ordered_json(std::vector<ordered_json>(9, ordered_json::object())))).text,
        Contains("at most 8"));
    REQUIRE_THAT(error(with("values", ordered_json::object())).text, Contains("'values'"));
}

}  // namespace vtpm::attestation_test
