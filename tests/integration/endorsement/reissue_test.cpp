// SPDX-License-Identifier: Apache-2.0
// Endorsement certificates that are issued again: xen-vtpm reissue, and the next power-on.
#include <nlohmann/json.hpp>

#include "backend/engine/libtpms.hpp"
#include "base/big_endian.hpp"
#include "machine.hpp"
#include "manager/crypto/der.hpp"
#include "manager/crypto/encoding.hpp"

namespace vtpm {
namespace {

using commands::Command;

constexpr EkTemplate kCertified[] = {EkTemplate::kRsa2048, EkTemplate::kEccP256, EkTemplate::kEccP384};

struct Reissued : Machine {
    using Machine::Machine;

    void power_cycle() {
        power_off();
        power_on();
    }
    void order() {
        const Output ordered = xen_vtpm({"reissue", uuid.to_string()});
        INFO(ordered.err);
        REQUIRE(ordered.status == 0);
        REQUIRE_THAT(ordered.out, Contains("issued again"));
    }
    nlohmann::json shown() { return nlohmann::json::parse(xen_vtpm({"--json", "show", uuid.to_string()}).out); }
    bool is_ordered() { return shown().at("reissue"); }
    std::uint64_t stores() { return shown().at("sequence"); }
    std::vector<Bytes> certificates() {
        std::vector<Bytes> all;
        for (const EkTemplate kind : kCertified) all.push_back(nv_content(ek_certificate_index(kind)));
        return all;
    }
    // As its row has them.
    std::vector<Bytes> attested() {
        const Output made = xen_vtpm({"attestation", "create", uuid.to_string(), "--nonce", std::string(32, 'a')});
        INFO(made.err);
        REQUIRE(made.status == 0);
        const nlohmann::json attestation = nlohmann::json::parse(made.out);
        std::vector<Bytes> all;
        for (const auto &key : attestation.at("endorsement_keys"))
            all.push_back(*from_base64(key.at("certificate").get<std::string>()));
        return all;
    }
    // From now on a root of ours is above the group's CA.
    std::string import_signed_ca() {
        const std::string request = write("ca.csr", xen_vtpm({"ca", "csr"}).out);
        const std::string root = file("root.pem");
        REQUIRE(openssl({"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                         file("root.key"), "-out", root, "-subj", "/CN=Our own CA"})
                    .status == 0);
        const std::string extensions =
            write("ca.ext",
                  "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n"
                  "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n");
        REQUIRE(openssl({"x509", "-req", "-in", request, "-CA", root, "-CAkey", file("root.key"), "-CAcreateserial",
                         "-extfile", extensions, "-days", "3650", "-out", file("signed.pem")})
                    .status == 0);
        REQUIRE(xen_vtpm({"ca", "install-certificate", file("signed.pem")}).status == 0);
        return root;
    }
    std::string as_pem(const std::string &name, const Bytes &der) {
        REQUIRE(
            openssl({"x509", "-inform", "DER", "-in", write(name + ".der", text(der)), "-out", file(name)}).status ==
            0);
        return file(name);
    }
    // Without TPM2_Shutdown.
    void kill_engine() {
        const auto pid = [&] { return static_cast<pid_t>(host->backend->devices().at(device)->engine_pid()); };
        REQUIRE(::kill(pid(), SIGKILL) == 0);
        REQUIRE(host->run_until([&] { return pid() == 0; }));
    }
    void restart_manager(int signal) {
        manager->end(signal);
        manager.emplace(place);
    }
};

// What the certificate says of its TPM.
std::string description(const std::string &pem) {
    const Output shown = openssl({"x509", "-in", pem, "-noout", "-ext", "subjectAltName,subjectDirectoryAttributes"});
    REQUIRE_THAT(shown.out, Contains("2.23.133.2.1"));
    return shown.out;
}

// An engine in this process, which a test can stop at any step of a power-on with new certificates.
class SteppedEngine {
public:
    explicit SteppedEngine(EngineEnd end) : end_(std::move(end)) {
        end_.load();
        const auto loaded = end_.receive<LoadedState>();
        tpm_.durable = SecretBytes(loaded.state);
        REQUIRE(tpm_.start());
        tpm_.changed.reset();
        end_.send(PowerOn{});
        REQUIRE(end_.receive<PowerOnCommands>().text == PowerOnCommands::kReissueFirst);
    }
    // Asks for the next command; it is still to be received.
    void ask() { end_.send(ManufactureStep{response_}); }
    // False: there is none any more.
    bool obey() {
        const auto command = end_.receive<ManufactureCommand>();
        REQUIRE(command.code == ErrorCode::kNone);
        if (command.command.empty()) return false;
        const ByteView answer = tpm_.process(command.command);
        response_.assign(answer.begin(), answer.end());
        return true;
    }
    // False: it is done before that many steps.
    bool obey(int steps) {
        for (int i = 0; i < steps; ++i) {
            ask();
            if (!obey()) return false;
        }
        return true;
    }
    void store() { end_.store(tpm_.changed->view()); }
    EngineEnd &end() { return end_; }

private:
    EngineEnd end_;
    Libtpms tpm_{TpmVersion::k20};
    Bytes response_;
};

}  // namespace

TEST_CASE("certificates that are issued again are those of the CA that there is now") {
    Reissued machine;
    machine.power_on();
    const std::vector<Bytes> before = machine.certificates();
    const std::string root = machine.import_signed_ca();
    REQUIRE_FALSE(machine.is_ordered());
    machine.order();
    machine.order();  // one order
    REQUIRE(machine.is_ordered());
    REQUIRE(machine.certificates() == before);  // while the guest runs
    REQUIRE(machine.attested() == before);
    const Bytes key = machine.endorsement_public(EkTemplate::kRsa2048);
    REQUIRE(return_code(machine.execute(commands::nv_define(0x01500003, 1))) == 0);

    machine.power_cycle();
    REQUIRE_FALSE(machine.is_ordered());
    const std::vector<Bytes> after = machine.certificates();
    REQUIRE(machine.attested() == after);
    REQUIRE(machine.endorsement_public(EkTemplate::kRsa2048) == key);
    REQUIRE(return_code(machine.execute(commands::nv_write(0x01500003, Bytes(1, 7)))) ==
            0);  // what is the guest's stays
    const std::string chain = machine.as_pem("chain.pem", machine.nv_content(kEkCertificateChainIndex));
    for (std::size_t i = 0; i < std::size(kCertified); ++i) {
        REQUIRE(after[i] != before[i]);
        const std::string pem = machine.as_pem("ek.pem", after[i]);
        const Output verified = openssl({"verify", "-CAfile", root, "-untrusted", chain, pem});
        INFO(verified.err);
        REQUIRE(verified.status == 0);
        REQUIRE(description(pem) == description(machine.as_pem("former.pem", before[i])));
    }
    // The guest has no more power over them than over the former, and they stay.
    const Bytes undefine = Command(commands::kSessions, 0x122).u32(commands::kOwner).u32(0x01c00002).password().build();
    REQUIRE(return_code(machine.execute(undefine)) != 0);
    const std::uint64_t stores = machine.stores();
    machine.power_cycle();
    REQUIRE(machine.certificates() == after);
    REQUIRE(machine.stores() <= stores + 2);
    REQUIRE_THAT(machine.xen_vtpm({"audit"}).out, Contains("reissue-ordered"));
}

TEST_CASE("where new certificates find no place the guest keeps the former, and the order stays") {
    Reissued machine;
    machine.power_on();
    const std::vector<Bytes> before = machine.certificates();
    REQUIRE(return_code(machine.execute(commands::nv_define(kEkCertificateChainIndex, 2))) == 0);
    REQUIRE(return_code(machine.execute(commands::nv_write(kEkCertificateChainIndex, Bytes{1, 2}))) == 0);
    (void)machine.import_signed_ca();
    machine.order();
    machine.power_cycle();
    REQUIRE(machine.certificates() == before);
    REQUIRE(machine.attested() == before);
    REQUIRE(machine.nv_content(kEkCertificateChainIndex) == Bytes{1, 2});
    REQUIRE(machine.is_ordered());
    REQUIRE(return_code(machine.execute(Command(commands::kSessions, 0x122)
                                            .u32(commands::kOwner)
                                            .u32(kEkCertificateChainIndex)
                                            .password()
                                            .build())) == 0);
    // It was signed in vain, and a guest may start as often as it likes.
    machine.power_cycle();
    REQUIRE(machine.certificates() == before);
    REQUIRE(machine.is_ordered());
    machine.order();
    machine.power_cycle();
    REQUIRE(machine.certificates() != before);
    REQUIRE(machine.attested() == machine.certificates());
    REQUIRE_FALSE(machine.is_ordered());
}

TEST_CASE("an order to issue certificates is taken back, and given for a whole group") {
    Reissued machine;
    machine.power_on();
    const std::vector<Bytes> before = machine.certificates();
    REQUIRE(machine.xen_vtpm({"create"}).status == 0);  // did not run yet
    const auto of_group = [&](std::vector<std::string> options) {
        std::vector<std::string> command{"--json", "reissue", "--group", "default"};
        command.insert(command.end(), options.begin(), options.end());
        const Output ordered = machine.xen_vtpm(command);
        INFO(ordered.err);
        REQUIRE(ordered.status == 0);
        return nlohmann::json::parse(ordered.out).at("changed").get<int>();
    };
    REQUIRE(of_group({}) == 1);
    REQUIRE(machine.is_ordered());
    REQUIRE(of_group({}) == 0);
    REQUIRE(of_group({"--withdraw"}) == 1);
    REQUIRE_FALSE(machine.is_ordered());
    machine.order();
    REQUIRE(machine.xen_vtpm({"reissue", "--withdraw", machine.uuid.to_string()}).status == 0);
    machine.power_cycle();
    REQUIRE(machine.certificates() == before);
    REQUIRE(of_group({}) == 1);
    machine.power_cycle();
    REQUIRE(machine.certificates() != before);
    REQUIRE_FALSE(machine.is_ordered());
    REQUIRE(machine.xen_vtpm({"reissue", "--group", "nobody"}).status == 3);
    REQUIRE(machine.xen_vtpm({"reissue"}).status == 2);
    REQUIRE(machine.xen_vtpm({"reissue", "--group", "default", machine.uuid.to_string()}).status == 2);
    REQUIRE_THAT(machine.xen_vtpm({"audit"}).out, Contains("reissue-withdrawn") && Contains("group default"));
}

TEST_CASE("certificates that are signed when their group gets another CA are issued again by that") {
    Reissued machine;
    machine.power_on();
    machine.power_off();
    machine.order();
    {
        SteppedEngine engine(BackendEnd(machine.place.socket()).open(machine.uuid));
        while (engine.obey(1)) {}  // signed, and not stored
        REQUIRE(machine.xen_vtpm({"group", "rekey", "--new-ca", "default"}).status == 0);
        engine.store();
        REQUIRE(engine.end().receive<StoredState>().code == ErrorCode::kNone);
        engine.end().close();
    }
    REQUIRE(machine.is_ordered());
    const std::string ca = machine.write("ca.pem", machine.xen_vtpm({"ca", "certificate"}).out);
    const auto leads_there = [&] {
        const Bytes certificate = machine.nv_content(ek_certificate_index(EkTemplate::kRsa2048));
        return openssl({"verify", "-CAfile", ca, machine.as_pem("ek.pem", certificate)}).status == 0;
    };
    machine.power_on();
    REQUIRE_FALSE(machine.is_ordered());
    REQUIRE(leads_there());
}

TEST_CASE("while nothing signs, a guest is powered on with the certificates that it has, and the order stays") {
    Reissued machine;
    machine.power_on();
    const std::vector<Bytes> before = machine.certificates();
    machine.order();
    machine.power_off();
    machine.tpm.reset();
    machine.power_on();
    REQUIRE(machine.certificates() == before);
    REQUIRE(machine.is_ordered());
    machine.power_off();
    machine.tpm.emplace(machine.directory / "hardware-tpm");
    machine.power_on();
    REQUIRE(machine.certificates() != before);
    REQUIRE_FALSE(machine.is_ordered());
}

TEST_CASE("a vTPM that has no certificates gets none") {
    const auto refused = [](Reissued &machine, int status, const char *why) {
        const Output answer = machine.xen_vtpm({"reissue", machine.uuid.to_string()});
        REQUIRE(answer.status == status);
        REQUIRE_THAT(answer.err, Contains(why));
    };
    SECTION("of which nobody knows") {
        Reissued machine;
        refused(machine, 3, "unknown");
        REQUIRE(machine.xen_vtpm({"reissue", "no-uuid"}).status == 3);
    }
    SECTION("that did not run yet") {
        Reissued machine;
        REQUIRE(machine.xen_vtpm({"create", machine.uuid.to_string()}).status == 0);
        refused(machine, 7, "did not run yet");
    }
    SECTION("that was made without, or is a TPM 1.2") {
        Reissued machine(GENERATE("ek_certificates = false\n", "sealing = \"file\"\n", "default_tpm = \"1.2\"\n"));
        machine.power_on();
        refused(machine, 7, "has no certificates");
        machine.power_cycle();
    }
}

TEST_CASE("where the keys lie in a file nothing is issued again") {
    Reissued machine;
    machine.power_on();
    machine.power_off();
    const std::string key = machine.write("recovery.key", machine.xen_vtpm({"group", "recovery-key", "default"}).out);
    const std::string backup = machine.file("backup");
    REQUIRE(machine.xen_vtpm({"export", machine.uuid.to_string(), backup}).status == 0);
    Reissued other("sealing = \"file\"\n");
    other.uuid = machine.uuid;
    REQUIRE(other.xen_vtpm({"import", "--recovery-key", key, "--confirm-original-destroyed", backup}).status == 0);
    const Output refused = other.xen_vtpm({"reissue", other.uuid.to_string()});
    REQUIRE(refused.status == 7);
    REQUIRE_THAT(refused.err, Contains("nothing signs"));
    REQUIRE_FALSE(other.is_ordered());
    other.power_on();
    REQUIRE_FALSE(other.nv_content(ek_certificate_index(EkTemplate::kRsa2048)).empty());
}

TEST_CASE("a vTPM that came from another host is certified by the CA of this one") {
    Reissued machine;
    machine.power_on();
    machine.power_off();
    const std::string key = machine.write("recovery.key", machine.xen_vtpm({"group", "recovery-key", "default"}).out);
    const std::string backup = machine.file("backup");
    REQUIRE(machine.xen_vtpm({"export", machine.uuid.to_string(), backup}).status == 0);
    Reissued other;
    other.uuid = machine.uuid;
    REQUIRE(other.xen_vtpm({"import", "--recovery-key", key, "--confirm-original-destroyed", backup}).status == 0);
    const std::string ca = other.write("ca.pem", other.xen_vtpm({"ca", "certificate"}).out);
    const auto leads_here = [&] {
        const Bytes certificate = other.nv_content(ek_certificate_index(EkTemplate::kRsa2048));
        return openssl({"verify", "-CAfile", ca, other.as_pem("ek.pem", certificate)}).status == 0;
    };
    other.power_on();
    REQUIRE_FALSE(leads_here());
    other.order();
    other.power_cycle();
    REQUIRE(leads_here());
}

TEST_CASE("the order goes along with a backup") {
    Reissued machine;
    machine.power_on();
    const std::vector<Bytes> before = machine.certificates();
    machine.order();
    machine.power_off();
    REQUIRE(machine.xen_vtpm({"export", machine.uuid.to_string(), machine.file("backup")}).status == 0);
    machine.power_on();
    const std::vector<Bytes> after = machine.certificates();
    REQUIRE(after != before);
    machine.power_off();
    REQUIRE(machine.xen_vtpm({"import", "--replace", machine.file("backup")}).status == 0);
    REQUIRE(machine.is_ordered());
    machine.power_on();
    REQUIRE(machine.certificates() != before);
    REQUIRE(machine.certificates() != after);
    REQUIRE_FALSE(machine.is_ordered());
}

TEST_CASE("Clock goes on and no failed try is counted by a power-on with new certificates") {
    Reissued machine;
    machine.power_on();
    const auto clock = [&] {
        const Bytes read = machine.execute(Command(commands::kNoSessions, 0x181).build());
        REQUIRE(return_code(read) == 0);
        REQUIRE(read.back() == 1);  // safe
        return big_endian(ByteView(read).subspan(18, 8));
    };
    machine.order();
    const std::uint64_t before = clock();
    machine.kill_engine();
    machine.power_cycle();
    REQUIRE_FALSE(machine.is_ordered());
    REQUIRE(clock() >= before);
    const Bytes told = machine.execute(Command(commands::kNoSessions, 0x17A).u32(6).u32(0x20E).u32(1).build());
    REQUIRE(big_endian(ByteView(told).last(4)) == 0);  // TPM_PT_LOCKOUT_COUNTER
}

TEST_CASE("a guest that is saved and restored has its certificates, and the order stays until it is started anew") {
    Reissued machine;
    machine.power_on();
    const std::vector<Bytes> before = machine.certificates();
    machine.order();
    machine.host->domains.facts(machine.device.domain).suspended = true;
    machine.power_off();
    machine.device = {9, 0};
    machine.host->domains.build(machine.device.domain, 2);
    machine.power_on();
    REQUIRE(machine.certificates() == before);
    REQUIRE(machine.is_ordered());
    machine.power_off();
    machine.device = {10, 0};
    machine.power_on();
    REQUIRE(machine.certificates() != before);
    REQUIRE_FALSE(machine.is_ordered());
}

TEST_CASE("the journal says of a clock that may be wrong when a certificate is issued, and so does the status") {
    Reissued machine;
    const UniqueFd journal = file_with("");
    machine.place.journal = journal.get();
    machine.restart_manager(SIGTERM);
    machine.power_on();
    const auto said = [&] {
        std::string all(1 << 16, '\0');
        const ssize_t size = ::pread(journal.get(), all.data(), all.size(), 0);
        REQUIRE(size > 0);
        return all.substr(0, static_cast<std::size_t>(size));
    };
    const std::string trouble =
        nlohmann::json::parse(machine.xen_vtpm({"--json", "status"}).out).at("manager").at("clock_trouble");
    // As this machine's clock is. Which are doubtful: tests/unit/manager/clock_test.cpp.
    const bool doubtful = !trouble.empty();
    const std::string of_vtpm = "vTPM " + machine.uuid.to_string() + " is certified as of a clock that may be wrong";
    REQUIRE(Contains(of_vtpm).match(said()) == doubtful);
    REQUIRE(Contains("the CA of group 'default' is certified").match(said()) == doubtful);
    REQUIRE(Contains("the clock of this host").match(machine.xen_vtpm({"status"}).out) == doubtful);
}

TEST_CASE("an engine gets new certificates when they are ordered, once for each power-on") {
    Reissued machine;
    machine.power_on();
    machine.power_off();
    BackendEnd backend(machine.place.socket());
    {
        EngineEnd engine = backend.open(machine.uuid);
        engine.send(PowerOn{});
        REQUIRE(engine.receive<PowerOnCommands>().text.empty());
        engine.send(ManufactureStep{});
        REQUIRE(engine.closed());
    }
    machine.order();
    {
        EngineEnd engine = backend.open(machine.uuid);
        engine.send(ManufactureStep{});  // before its power-on
        REQUIRE(engine.closed());
    }
    {
        SteppedEngine engine(backend.open(machine.uuid));
        REQUIRE(engine.obey(3));
        engine.store();  // by half
        (void)engine.end().receive<StoredState>();
        REQUIRE(machine.is_ordered());
        engine.end().send(ManufactureStep{});
        REQUIRE(engine.end().closed());
    }
    REQUIRE(machine.is_ordered());
}

TEST_CASE("an order to issue certificates survives the end of engine and manager at each step") {
    Reissued machine;
    machine.power_on();
    const std::vector<Bytes> before = machine.certificates();
    machine.power_off();
    machine.order();
    const std::uint64_t stores = machine.stores();
    const auto nothing_happened = [&] {
        REQUIRE(machine.is_ordered());
        REQUIRE(machine.stores() == stores);
        REQUIRE(machine.attested() == before);
    };
    const bool kills_manager = GENERATE(false, true);
    CAPTURE(kills_manager);
    const auto open = [&] { return BackendEnd(machine.place.socket()).open(machine.uuid); };
    int steps = 0;
    for (;; ++steps) {
        CAPTURE(steps);
        SteppedEngine engine(open());
        if (!engine.obey(steps)) break;
        engine.ask();
        if (kills_manager) machine.restart_manager(SIGKILL);
        engine.end().close();
        REQUIRE(machine.is_ordered());
        if (steps % 5 == 0) nothing_happened();
    }
    REQUIRE(steps > 15);
    nothing_happened();
    {
        // All is done but the store, and then all but its answer.
        SteppedEngine engine(open());
        REQUIRE_FALSE(engine.obey(steps));
        if (kills_manager) machine.restart_manager(SIGKILL);
        engine.end().close();
        nothing_happened();
    }
    {
        SteppedEngine engine(open());
        REQUIRE_FALSE(engine.obey(steps));
        engine.store();
        if (kills_manager) machine.restart_manager(SIGKILL);
        engine.end().close();
        REQUIRE(machine.is_ordered() == (machine.stores() == stores));
        REQUIRE(machine.is_ordered() == (machine.attested() == before));
    }
    machine.power_on();
    REQUIRE_FALSE(machine.is_ordered());
    REQUIRE(machine.certificates() != before);
    REQUIRE(machine.attested() == machine.certificates());
}

}  // namespace vtpm
