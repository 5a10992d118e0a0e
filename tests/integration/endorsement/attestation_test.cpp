// SPDX-License-Identifier: Apache-2.0
// From the maker of the hardware TPM to the guest, and what a verifier finds when something on that way is not so.
#include <csignal>
#include <nlohmann/json.hpp>

#include "machine.hpp"
#include "manager/attestation/enrolment.hpp"
#include "manager/crypto/encoding.hpp"
#include "manager/crypto/pem.hpp"
#include "manager/hardware_tpm/hardware_tpm.hpp"
#include "manager/tpm/attestation_key.hpp"
#include "manager/tpm/public_area.hpp"
#include "tests/unit/manager/certificates.hpp"
#include "tests/unit/manager/revocation.hpp"

namespace vtpm {
namespace {

using commands::Command;
using nlohmann::json;

const std::string kNonce = "00112233445566778899aabbccddeeff";

struct Attested : Machine {
    using Machine::Machine;

    std::string must(const std::vector<std::string> &arguments) {
        const Output output = xen_vtpm(arguments);
        CAPTURE(arguments, output.err);
        REQUIRE(output.status == 0);
        return output.out;
    }
    std::string identity() { return write("host.json", must({"host", "identity"})); }
    std::string attest(const std::string &nonce = kNonce) {
        return write("attestation.json", must({"attestation", "create", uuid.to_string(), "--nonce", nonce}));
    }
    // The verifier has no bus, and no TPM.
    Output verify(const std::string &attestation, std::vector<std::string> trust, const std::string &nonce = kNonce) {
        std::vector<std::string> arguments{"attestation", "verify", attestation,      "--nonce",
                                           nonce,         "--host", file("host.json")};
        arguments.insert(arguments.end(), trust.begin(), trust.end());
        return cli("unix:path=/nonexistent", arguments);
    }
    void holds(const std::string &attestation, const std::vector<std::string> &trust) {
        const Output verdict = verify(attestation, trust);
        CAPTURE(verdict.out, verdict.err);
        REQUIRE(verdict.status == 0);
        REQUIRE_THAT(verdict.out, Contains("Result: verified"));
    }
    void fails(const std::string &attestation, const std::vector<std::string> &trust, const std::string &what) {
        const Output verdict = verify(attestation, trust);
        CAPTURE(verdict.out, verdict.err);
        REQUIRE(verdict.status == 5);
        REQUIRE_THAT(verdict.out, Contains("FAILED  " + what) && Contains("Result: NOT verified"));
    }

    void extend_host_pcr(ESYS_TR pcr) {
        const Esys esys = expect(connect_tpm(tpm->tcti()));
        TPML_DIGEST_VALUES values{};
        values.count = 1;
        values.digests[0].hashAlg = TPM2_ALG_SHA256;
        REQUIRE(Esys_PCR_Extend(esys.get(), pcr, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &values) ==
                TSS2_RC_SUCCESS);
    }
    // As the TPM's maker does it.
    void define_certificate(std::uint32_t index, const Bytes &content) {
        const Esys esys = expect(connect_tpm(tpm->tcti()));
        TPM2B_NV_PUBLIC area{};
        area.nvPublic.nvIndex = index;
        area.nvPublic.nameAlg = TPM2_ALG_SHA256;
        area.nvPublic.attributes = TPMA_NV_AUTHREAD | TPMA_NV_OWNERWRITE | TPMA_NV_OWNERREAD | TPMA_NV_NO_DA;
        area.nvPublic.dataSize = static_cast<UINT16>(content.size());
        const TPM2B_AUTH none{};
        ESYS_TR nv = ESYS_TR_NONE;
        REQUIRE(Esys_NV_DefineSpace(esys.get(), ESYS_TR_RH_OWNER, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &none,
                                    &area, &nv) == TSS2_RC_SUCCESS);
        TPM2B_MAX_NV_BUFFER data{static_cast<UINT16>(content.size()), {}};
        std::ranges::copy(content, data.buffer);
        REQUIRE(Esys_NV_Write(esys.get(), ESYS_TR_RH_OWNER, nv, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &data,
                              0) == TSS2_RC_SUCCESS);
        REQUIRE(Esys_TR_Close(esys.get(), &nv) == TSS2_RC_SUCCESS);
    }

    // The guest's way: our vendor command, as docs/attestation.md has it.
    Bytes ask(const std::string &nonce, std::uint32_t offset) {
        return execute(Command(commands::kNoSessions, 0x20005854).sized(from_hex(nonce).value()).u32(offset).build());
    }
    // Until there is one; what the guest's kernel does with TPM_RC_RETRY.
    std::string ask_all(const std::string &nonce) {
        Bytes part = ask(nonce, 0);
        for (int attempt = 0; return_code(part) == 0x922 && attempt < 1200; ++attempt) {
            host->run_for(std::chrono::milliseconds(50));
            part = ask(nonce, 0);
        }
        std::string whole;
        for (;;) {
            REQUIRE(return_code(part) == 0);
            const std::size_t total = u16_at(part, 10) << 16 | u16_at(part, 12);
            whole.append(part.begin() + 16, part.end());
            REQUIRE(part.size() == 16 + u16_at(part, 14));
            if (whole.size() >= total) return whole;
            part = ask(nonce, static_cast<std::uint32_t>(whole.size()));
        }
    }
};

std::string approver(const Machine &machine) {
    REQUIRE(
        openssl({"ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", machine.file("approver.pem")}).status ==
        0);
    REQUIRE(openssl({"pkey", "-in", machine.file("approver.pem"), "-pubout", "-out", machine.file("approver.pub")})
                .status == 0);
    return machine.file("approver.pub");
}

json parsed_file(const std::string &path) {
    std::ifstream stream(path);
    return json::parse(stream);
}

constexpr std::int64_t kLongAgo = 1'000'000'000;
constexpr std::int64_t kLater = 4'000'000'000;

// The maker's own certificate.
Bytes maker() {
    Issue root;
    root.subject = "root";
    root.key = rsa_2048();
    root.constraints = "critical,CA:TRUE";
    root.usage = "critical,keyCertSign,cRLSign";
    root.from = kLongAgo;
    root.to = kLater;
    return issued(root);
}

}  // namespace

TEST_CASE("a verifier far away believes a host's attestation, and no part of another") {
    Attested machine;
    machine.power_on();
    machine.identity();
    const std::string attestation = machine.attest();
    machine.holds(attestation, {"--any-boot"});
    machine.holds(attestation, {"--any-boot", "--uuid", machine.uuid.to_string()});
    machine.fails(attestation, {"--any-boot", "--uuid", Uuid::random().to_string()}, "vTPM");
    const Output other_nonce = machine.verify(attestation, {"--any-boot"}, "ffeeddccbbaa99887766554433221100");
    REQUIRE(other_nonce.status == 5);
    REQUIRE_THAT(other_nonce.out, Contains("FAILED  nonce") && Contains("ok      host quote"));

    // The PCRs that the verifier knows, and others.
    json known = parsed_file(attestation);
    machine.holds(attestation, {"--measurements", attestation});
    known["values"]["7"] = std::string(64, 'a');
    machine.fails(attestation, {"--measurements", machine.write("known.json", known.dump())}, "boot");
    machine.fails(attestation, {"--approver", approver(machine)}, "boot");
    REQUIRE(machine.verify(attestation, {}).status == 2);  // which boots are good is nobody's default

    // Another value in the place of the quoted one; another vTPM's name on it.
    machine.fails(machine.write("changed.json", known.dump()), {"--any-boot"}, "host quote");
    json renamed = parsed_file(attestation);
    renamed["vtpm"] = Uuid::random().to_string();
    machine.fails(machine.write("changed.json", renamed.dump()), {"--any-boot"}, "host quote");

    // A second one of the same vTPM is as good, and has the same keys.
    const json first = parsed_file(attestation);
    const std::string again = machine.attest("aaaaaaaaaaaaaaaa");
    REQUIRE(parsed_file(again)["endorsement_keys"] == first["endorsement_keys"]);
    REQUIRE_THAT(machine.must({"audit"}), Contains("attestation-given") && Contains("nonce aaaaaaaaaaaaaaaa"));
}

TEST_CASE("an attestation tells what the guest was started with, by the host's word") {
    Attested machine;
    const auto predict = [&](const std::string &kernel, const std::string &line) {
        return machine.must({"--json", "launch", "predict", "--kernel", machine.write("kernel", kernel), "--cmdline",
                             line, "--event-log", machine.file(line)});
    };
    const std::string good = machine.write("good.json", predict("a kernel", "ro quiet"));
    const std::string other = machine.write("other.json", predict("a kernel", "ro single"));
    std::ifstream recorded(machine.file("ro quiet"), std::ios::binary);
    const std::string log(std::istreambuf_iterator<char>(recorded), {});
    expect(machine.host->launches->record({machine.device.domain, Bytes(log.begin(), log.end())}));
    machine.power_on();
    machine.identity();

    // Of the administrator: without the log, which the guest has.
    const std::string plain = machine.attest();
    machine.holds(plain, {"--any-boot"});
    machine.fails(plain, {"--any-boot", "--launch", good}, "launch");
    json document = json::parse(machine.ask_all(kNonce));
    REQUIRE(document.at("event_log_digest") == parsed_file(plain).at("event_log_digest"));
    Bytes guest_log;
    for (std::size_t whole = 1; guest_log.size() < whole;) {
        const Bytes part = machine.execute(
            Command(commands::kNoSessions, 0x20005855).u32(static_cast<std::uint32_t>(guest_log.size())).build());
        REQUIRE(return_code(part) == 0);
        whole = u16_at(part, 10) << 16 | u16_at(part, 12);
        guest_log.insert(guest_log.end(), part.begin() + 16, part.end());
    }
    document["event_log"] = to_base64(guest_log);
    const std::string complete = machine.write("complete.json", document.dump());
    machine.holds(complete, {"--any-boot", "--launch", good});
    machine.fails(complete, {"--any-boot", "--launch", other}, "launch");
    REQUIRE_THAT(machine.verify(complete, {"--any-boot"}).out, Contains("measured; command line 'ro quiet'"));

    // Another log, or another digest.
    document["event_log"] = to_base64(Bytes(log.begin(), log.end()));
    machine.fails(machine.write("changed.json", document.dump()), {"--any-boot"}, "launch");
    document.erase("event_log");
    document["event_log_digest"] = std::string(64, 'a');
    machine.fails(machine.write("changed.json", document.dump()), {"--any-boot"}, "host quote");
    document.erase("event_log_digest");
    machine.fails(machine.write("changed.json", document.dump()), {"--any-boot"}, "host quote");

    // A manager that was restarted, and a guest that was restored, tell the same; one that was started anew tells that.
    const std::string digest = parsed_file(plain).at("event_log_digest");
    machine.manager->end(SIGKILL);
    machine.manager.emplace(machine.place);
    REQUIRE(parsed_file(machine.attest()).at("event_log_digest") == digest);
    machine.host->domains.facts(machine.device.domain).suspended = true;
    machine.power_off();
    machine.device = {9, 0};
    machine.host->domains.build(9, 2);
    machine.power_on();
    REQUIRE(parsed_file(machine.attest()).at("event_log_digest") == digest);
    machine.power_off();
    machine.device = {10, 0};
    machine.power_on();
    const std::string unmeasured = machine.attest();
    REQUIRE(parsed_file(unmeasured).at("event_log_digest") != digest);
    machine.fails(unmeasured, {"--any-boot", "--launch", good}, "launch");
}

TEST_CASE("the endorsement keys of an attestation are those of the guest's TPM, for tools as well") {
    Attested machine;
    machine.power_on();
    machine.identity();
    const std::string attestation = machine.attest();
    const std::string key = machine.file("ek.pub");
    machine.holds(attestation, {"--any-boot", "--write-ek", key});
    std::ifstream stream(key, std::ios::binary);
    const std::string written(std::istreambuf_iterator<char>(stream), {});
    REQUIRE(written == text(machine.endorsement_public(EkTemplate::kRsa2048)));
    const json document = parsed_file(attestation);
    for (const json &certified : document["endorsement_keys"]) {
        const Bytes area = from_base64(certified["public"].get<std::string>()).value();
        const EndorsementKey ek = expect(endorsement_key(area));
        REQUIRE(area == machine.endorsement_public(ek.kind));
        REQUIRE(from_base64(certified["certificate"].get<std::string>()).value() ==
                machine.nv_content(ek_certificate_index(ek.kind)));
    }
    // After a restart of the manager and a power cycle too.
    machine.power_off();
    machine.manager->end(SIGTERM);
    machine.manager.emplace(machine.place);
    machine.power_on();
    machine.holds(machine.attest(), {"--any-boot"});
}

TEST_CASE("a vTPM that was put back from a backup is attested as before") {
    Attested machine;
    machine.power_on();
    machine.identity();
    const json before = parsed_file(machine.attest());
    machine.power_off();
    const std::string uuid = machine.uuid.to_string();
    machine.must({"export", uuid, machine.file("backup")});
    machine.must({"delete", "--yes", uuid});
    REQUIRE(machine.xen_vtpm({"attestation", "create", uuid, "--nonce", kNonce}).status == 3);
    machine.must({"import", machine.file("backup")});
    const std::string attestation = machine.attest();
    REQUIRE(parsed_file(attestation)["endorsement_keys"] == before["endorsement_keys"]);
    machine.holds(attestation, {"--any-boot", "--uuid", uuid});
}

TEST_CASE("an attestation says whether the group's approver approved this boot of the host") {
    Attested machine;
    const std::string pub = approver(machine);
    machine.must({"group", "create", "tenant", "--approver", pub});
    machine.uuid = *Uuid::parse(machine.must({"create", "--group", "tenant"}).substr(0, 36));
    machine.power_on();
    machine.identity();
    const std::string before = machine.attest();
    machine.fails(before, {"--approver", pub}, "boot");  // nothing was approved yet

    json values = parsed_file(before);
    const std::string boot =
        machine.write("boot.json", json{{"pcrs", values["pcrs"]}, {"values", values["values"]}}.dump());
    const std::string policy =
        machine.write("policy.json", machine.must({"policy", "sign", "--key", machine.file("approver.pem"), "--group",
                                                   "tenant", "--measurements", boot, "--pcrs", "sha256:4,7"}));
    machine.must({"policy", "install", policy});
    const std::string approved = machine.attest();
    machine.holds(approved, {"--approver", pub});
    REQUIRE(parsed_file(approved)["pcrs"] == "sha256:4,7");
    // What the verifier asks of the group, and what he learns of the host.
    machine.holds(approved, {"--approver", pub, "--group", "tenant", "--min-generation", "1"});
    machine.fails(approved, {"--approver", pub, "--group", "default"}, "group");
    machine.fails(approved, {"--approver", pub, "--min-generation", "2"}, "group");
    REQUIRE(machine.verify(approved, {"--approver", pub, "--min-generation", "0"}).status == 2);
    const json verdict = json::parse(machine.verify(approved, {"--approver", pub, "--json"}).out);
    REQUIRE(verdict["group"] == "tenant");
    REQUIRE(verdict["generation"] == 1);
    const json quote = verdict["quote"];
    REQUIRE(quote["pcrs"] == "sha256:4,7");
    REQUIRE(quote["values"] == parsed_file(approved)["values"]);
    REQUIRE(quote["clock"] > 0);
    REQUIRE(quote["reset_count"].is_number());
    REQUIRE(quote["restart_count"].is_number());
    REQUIRE(quote["firmware_version"].get<std::string>().size() == 16);
    machine.fails(machine.write("attestation.json", machine.must({"attestation", "create", machine.uuid.to_string(),
                                                                  "--nonce", kNonce, "--pcrs", "sha256:4"})),
                  {"--approver", pub}, "boot");  // PCR 7 was not quoted

    // The host measures something else while it runs: no quote says otherwise, nor does the former policy.
    machine.extend_host_pcr(ESYS_TR_PCR7);
    const std::string after = machine.attest();
    machine.fails(after, {"--approver", pub}, "boot");
    json forged = parsed_file(after);
    forged["boot_policy"] = parsed_file(policy).dump();
    machine.fails(machine.write("forged.json", forged.dump()), {"--approver", pub}, "boot");
}

TEST_CASE("a host's TPM answers a challenge that is for it, and no other does") {
    Attested machine;
    machine.identity();
    const bool by_maker = GENERATE(false, true);
    const auto kind = GENERATE(EkTemplate::kEccP256, EkTemplate::kRsa2048);
    if (!by_maker && kind == EkTemplate::kRsa2048) return;  // without a certificate it is P-256
    std::vector<std::string> trusted{"--any-tpm"};
    const std::string makers = machine.write("makers.pem", to_pem("CERTIFICATE", maker()));
    if (by_maker) {
        HostIdentity plain = expect(HardwareTpm::open(machine.tpm->tcti(), {})).identity().value();
        if (kind == EkTemplate::kRsa2048) {
            machine.define_certificate(ek_certificate_index(kind), {1});
            plain = expect(HardwareTpm::open(machine.tpm->tcti(), {})).identity().value();
            REQUIRE(HardwareTpm::open(machine.tpm->tcti(), {})->nv_remove(ek_certificate_index(kind)));
        }
        Issue issue;
        const EndorsementKey key = expect(endorsement_key(plain.endorsement_key));
        issue.subject = "a TPM";
        issue.key = key.key.get();
        issue.constraints = "critical,CA:FALSE";
        issue.usage = "critical,keyAgreement";
        issue.from = kLongAgo;
        issue.to = kLater;
        Bytes certificate = issued(issue);
        certificate.resize(certificate.size() + 20, 0xff);  // indices are larger than what is in them
        machine.define_certificate(ek_certificate_index(kind), certificate);
        trusted = {"--tpm-ca", makers};
    }
    const std::string host = machine.identity();
    REQUIRE(parsed_file(host).contains("endorsement_certificate") == by_maker);
    const auto challenge = [&](const std::string &identity, const std::string &answer,
                               const std::vector<std::string> &tpms) {
        std::vector<std::string> arguments{"host", "challenge", identity, "--write-answer", machine.file(answer)};
        arguments.insert(arguments.end(), tpms.begin(), tpms.end());
        return cli("unix:path=/nonexistent", arguments);
    };
    const Output asked = challenge(host, "answer", trusted);
    CAPTURE(asked.err);
    REQUIRE(asked.status == 0);
    const std::string question = machine.write("challenge.json", asked.out);
    std::ifstream stream(machine.file("answer"));
    const std::string expected(std::istreambuf_iterator<char>(stream), {});
    REQUIRE(expected.size() == 65);
    REQUIRE(machine.must({"host", "answer", question}) == expected);
    REQUIRE_THAT(machine.must({"audit"}), Contains("challenge-answered"));

    // Changed on its way, and for another key: no answer.
    json changed = parsed_file(question);
    Bytes blob = from_base64(changed["credential"].get<std::string>()).value();
    blob.back() ^= 1;
    changed["credential"] = to_base64(blob);
    REQUIRE(machine.xen_vtpm({"host", "answer", machine.write("changed.json", changed.dump())}).status == 5);
    json lie = parsed_file(host);
    const TPMT_PUBLIC other = expect(public_area_of(p256()));
    TPM2B_PUBLIC forged{0, attestation_key_form()};
    forged.publicArea.unique = other.unique;
    lie["attestation_key"] = to_base64(marshalled(forged));
    const Output of_lie = challenge(machine.write("lie.json", lie.dump()), "answer of the lie", trusted);
    REQUIRE(of_lie.status == 0);
    REQUIRE(machine.xen_vtpm({"host", "answer", machine.write("lie-challenge.json", of_lie.out)}).status == 5);
    // Another TPM.
    const Swtpm elsewhere(machine.directory / "other-tpm");
    HardwareTpm stranger = expect(HardwareTpm::open(elsewhere.tcti(), {}));
    REQUIRE(stranger.activate(expect(parse_credential(asked.out))).error().code == ErrorCode::kRefused);
    if (by_maker) {
        // A maker that nobody trusts, and a certificate for another TPM's key.
        REQUIRE(openssl({"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                         machine.file("x.key"), "-out", machine.file("x.pem"), "-subj", "/CN=root"})
                    .status == 0);
        REQUIRE(challenge(host, "no answer", {"--tpm-ca", machine.file("x.pem")}).status == 5);
        json stolen = parsed_file(host);
        stolen["endorsement_key"] = to_base64(expect(stranger.identity()).endorsement_key);
        REQUIRE(challenge(machine.write("stolen.json", stolen.dump()), "no answer", trusted).status == 5);
    }
}

TEST_CASE("certificates between the TPM's and its maker's come from the TPM's NV, or from a file") {
    Attested machine;
    Issue middle;
    middle.subject = "between";
    middle.usage = "critical,keyCertSign,cRLSign";
    middle.from = kLongAgo;
    middle.to = kLater;
    const Bytes ca = issued(middle);
    Issue issue;
    issue.subject = "a TPM";
    issue.issuer = "between";
    issue.authority = ca;
    issue.signer = p256();
    issue.constraints = "critical,CA:FALSE";
    issue.usage = "critical,keyAgreement,keyEncipherment";
    issue.more = {NID_ext_key_usage, "2.23.133.8.1"};
    issue.from = kLongAgo;
    issue.to = kLater;
    const auto kind = GENERATE(EkTemplate::kEccP256, EkTemplate::kRsa2048);
    const bool in_nv = GENERATE(true, false);
    CAPTURE(in_nv);
    const HostIdentity plain = expect(HardwareTpm::open(machine.tpm->tcti(), {})).identity(kind).value();
    REQUIRE(plain.endorsement_chain.empty());
    const EndorsementKey key = expect(endorsement_key(plain.endorsement_key));
    REQUIRE(key.kind == kind);
    issue.key = key.key.get();
    const Bytes certificate = issued(issue);
    const std::string makers = machine.write("makers.pem", to_pem("CERTIFICATE", maker()));
    const auto challenge = [&](const std::string &identity, const std::string &lists = {}) {
        std::filesystem::remove(machine.file("answer"));
        std::vector<std::string> arguments{"host",     "challenge", identity, "--write-answer", machine.file("answer"),
                                           "--tpm-ca", makers};
        if (!lists.empty()) arguments.insert(arguments.end(), {"--crl", lists});
        return cli("unix:path=/nonexistent", arguments);
    };
    std::string host;
    if (in_nv) {
        machine.define_certificate(ek_certificate_index(kind), certificate);
        machine.define_certificate(0x01c00100, {ca.begin(), ca.begin() + 200});
        Bytes rest(ca.begin() + 200, ca.end());
        rest.resize(rest.size() + 20, 0xff);
        machine.define_certificate(0x01c00101, rest);
        host = machine.identity();
    } else {
        REQUIRE(challenge(machine.identity()).status == 5);
        const std::string file =
            machine.write("ek.pem", to_pem("CERTIFICATE", certificate) + to_pem("CERTIFICATE", ca));
        host = machine.write("host.json", machine.must({"host", "identity", "--ek-certificate", file}));
        // For the other key of this TPM, and for none.
        const Output other = machine.xen_vtpm({"host", "identity", "--ek-certificate", makers});
        REQUIRE(other.status == 5);
        REQUIRE_THAT(other.err, Contains("is not for the endorsement key of this host's TPM"));
        REQUIRE(machine.xen_vtpm({"host", "identity", "--ek-certificate", host}).status == 2);
    }
    const Output asked = challenge(host);
    CAPTURE(asked.err);
    REQUIRE(asked.status == 0);
    std::ifstream stream(machine.file("answer"));
    const std::string expected(std::istreambuf_iterator<char>(stream), {});
    REQUIRE(machine.must({"host", "answer", machine.write("challenge.json", asked.out)}) == expected);

    json cut = parsed_file(host);
    cut.erase("endorsement_chain");
    REQUIRE_THAT(challenge(machine.write("cut.json", cut.dump())).err, Contains("unable to get local issuer"));
    const auto lists = [&](const std::vector<Bytes> &of_root) {
        return machine.write("lists.pem",
                             to_pem("X509 CRL", revocation_list(maker(), rsa_2048(), of_root, kLater, kLongAgo)) +
                                 to_pem("X509 CRL", revocation_list(ca, p256(), {}, kLater, kLongAgo)));
    };
    REQUIRE(challenge(host, lists({})).status == 0);
    REQUIRE_THAT(challenge(host, lists({ca})).err, Contains("certificate revoked (of CN=between)"));
    REQUIRE_THAT(challenge(host, makers).err, Contains("no file of revocation lists"));
}

TEST_CASE("a guest asks its own TPM for an attestation, now and then") {
    Attested machine;
    machine.power_on();
    machine.identity();
    const std::string attestation = machine.write("guest.json", machine.ask_all(kNonce));
    machine.holds(attestation, {"--any-boot", "--uuid", machine.uuid.to_string()});
    REQUIRE(machine.ask_all(kNonce).size() == parsed_file(attestation).dump(4).size() + 1);  // read again

    // Another one so soon is put off; the TPM goes on meanwhile.
    const std::string next = "0102030405060708";
    REQUIRE(return_code(machine.ask(next, 0)) == 0x922);
    REQUIRE(return_code(machine.execute(commands::get_random())) == 0);
    REQUIRE(return_code(machine.ask(next, 0)) == 0x922);
    REQUIRE(return_code(machine.ask(next, 100)) == 0x2c4);  // what was not given
    REQUIRE(return_code(machine.ask(kNonce, 100'000)) == 0x2c4);
    REQUIRE(return_code(machine.ask("00", 0)) == 0x1d5);
    REQUIRE(return_code(machine.ask(std::string(130, 'a'), 0)) == 0x1d5);
    const auto malformed = [&](const Command &command) { return return_code(machine.execute(command.build())); };
    REQUIRE(malformed(Command(commands::kNoSessions, 0x20005854)) == 0x142);
    REQUIRE(malformed(Command(commands::kNoSessions, 0x20005854).sized(Bytes(16, 1))) == 0x142);
    REQUIRE(malformed(Command(commands::kNoSessions, 0x20005854).sized(Bytes(16, 1)).u32(0).u8(0)) == 0x142);
    REQUIRE(malformed(Command(commands::kSessions, 0x20005854).sized(Bytes(16, 1)).u32(0)) == 0x145);
    REQUIRE(return_code(machine.execute(commands::get_random())) == 0);
    // The audit log has it once.
    const json log = json::parse(machine.must({"--json", "audit"}));
    REQUIRE(std::ranges::count_if(log, [](const json &record) { return record["event"] == "attestation-given"; }) == 1);
}

TEST_CASE("where there is nothing to attest by, the reason is said") {
    SECTION("no TPM seals") {
        Attested machine("sealing = \"file\"\n");
        machine.power_on();
        REQUIRE(machine.xen_vtpm({"attestation", "create", machine.uuid.to_string(), "--nonce", kNonce}).status != 0);
        REQUIRE(machine.xen_vtpm({"host", "identity"}).status == 5);
        REQUIRE(return_code(machine.ask(kNonce, 0)) == 0x922);
        machine.host->run_for(std::chrono::milliseconds(500));
        REQUIRE(return_code(machine.ask(kNonce, 0)) == 0x143);
    }
    SECTION("no certificates were made") {
        Attested machine("ek_certificates = false\n");
        machine.power_on();
        const Output refused = machine.xen_vtpm({"attestation", "create", machine.uuid.to_string(), "--nonce", kNonce});
        REQUIRE(refused.status != 0);
        REQUIRE_THAT(refused.err, Contains("ek_certificates = false"));
    }
    SECTION("guests are not to ask") {
        Attested machine("guest_attestation = false\n");
        machine.power_on();
        REQUIRE(return_code(machine.ask(kNonce, 0)) == 0x143);
        machine.must({"attestation", "create", machine.uuid.to_string(), "--nonce", kNonce});
    }
    SECTION("a nonce that is none") {
        Attested machine;
        machine.power_on();
        for (const std::string nonce : {"", "00", "0011223344556677889", "xyxyxyxyxyxyxyxy", "AABBCCDDEEFF0011"})
            REQUIRE(machine.xen_vtpm({"attestation", "create", machine.uuid.to_string(), "--nonce", nonce}).status ==
                    2);
    }
}

}  // namespace vtpm
