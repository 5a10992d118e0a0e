// SPDX-License-Identifier: Apache-2.0
#include <sys/eventfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "base/bus.hpp"
#include "manager/crypto/encoding.hpp"
#include "manager/hardware_tpm/hardware_tpm.hpp"
#include "manager/hardware_tpm/tpm_error.hpp"
#include "manager_process.hpp"
#include "shared-protocol/bus_names.hpp"
#include "swtpm.hpp"
#include "tests/unit/manager/log_writer.hpp"
#include "tests/unit/manager/openssl_keys.hpp"

namespace vtpm::cli_test {
using nlohmann::json;

namespace {

constexpr const char *kUuid = "01234567-89ab-cdef-0123-456789abcdef";

struct Fixture {
    TemporaryDirectory directory;
    Swtpm swtpm{directory / "tpm"};
    PrivateBus bus{directory / "bus"};
    ManagerPlace place{directory, swtpm.tcti(), bus.address(), {}};
    ManagerProcess manager{place};

    [[nodiscard]] Output xen_vtpm(std::vector<std::string> arguments) const {
        return cli(bus.address(), std::move(arguments));
    }
    [[nodiscard]] json answer(std::vector<std::string> arguments) const {
        arguments.emplace_back("--json");
        const Output output = xen_vtpm(std::move(arguments));
        CAPTURE(output.err);
        REQUIRE(output.status == 0);
        return json::parse(output.out);
    }
};

// A daemon of some version.
class DaemonOnTheBus {
public:
    DaemonOnTheBus(const std::string &bus, const bus::Address &address, std::vector<bus::Method> methods)
        : server_(loop_, address, std::move(methods), [](const std::string &) {}),
          ended_(expect(loop_.on_readable(end_.get(), [this] { loop_.stop(); }))) {
        ::setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.c_str(), 1);
        server_.start();
        thread_ = std::thread([this] { (void)loop_.run(); });
    }
    DaemonOnTheBus(const DaemonOnTheBus &) = delete;
    DaemonOnTheBus &operator=(const DaemonOnTheBus &) = delete;
    ~DaemonOnTheBus() {
        const std::uint64_t one = 1;
        (void)!::write(end_.get(), &one, sizeof one);
        thread_.join();
    }

private:
    EventLoop loop_ = expect(EventLoop::create());
    UniqueFd end_{::eventfd(0, EFD_CLOEXEC)};
    bus::Server server_;
    EventSource ended_;
    std::thread thread_;
};

// xen-vtpmd's: one device with an engine.
std::vector<bus::Method> device_with_engine(const std::string &uuid) {
    return {{"ListDevices", "", "aa{sv}",
             [uuid](const bus::Arguments &) -> Result<bus::Reply> {
                 return bus::Rows{{{"device", std::string("1/0")},
                                   {"uuid", uuid},
                                   {"engine_pid", static_cast<std::uint32_t>(::getpid())}}};
             }},
            {"ListMeters", "", "aa{sv}",
             [uuid, count = std::uint64_t{0}](const bus::Arguments &) mutable -> Result<bus::Reply> {
                 count += 5;
                 return bus::Rows{{{"device", std::string("1/0")},
                                   {"uuid", uuid},
                                   {"commands", count},
                                   {"latency", fmt::format("0 0 {}", count)},
                                   {"errors", std::string("0x922:1")},
                                   {"other_errors", std::uint64_t{0}},
                                   {"stores", count}}};
             }}};
}

}  // namespace

// After the manager's restart its engine has not come back yet.
TEST_CASE_METHOD(Fixture, "a vTPM of which only the backend knows that it is in use is not destroyed or replaced") {
    REQUIRE(xen_vtpm({"group", "create", "tenant", "--pcrs", "sha256:7"}).status == 0);
    REQUIRE(xen_vtpm({"create", kUuid, "--group", "tenant"}).status == 0);
    {
        BackendEnd backend(place.socket());
        EngineEnd engine = backend.open(*Uuid::parse(kUuid));
        engine.store(Bytes(100, 1));
        REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
    }
    const std::string backup = directory / "backup";
    while (xen_vtpm({"--json", "show", kUuid}).out.find(R"("in_use": true)") != std::string::npos) {}
    REQUIRE(xen_vtpm({"export", kUuid, backup}).status == 0);
    const auto require_refused = [&](std::vector<std::string> arguments) {
        const Output refused = xen_vtpm(std::move(arguments));
        CAPTURE(refused.err);
        REQUIRE(refused.status == 4);
        REQUIRE_THAT(refused.err, Contains("is in use: shut its guest down first"));
    };
    {
        const DaemonOnTheBus backend(bus.address(), kBackendBus, device_with_engine(kUuid));
        require_refused({"delete", "--yes", kUuid});
        std::string capitals(kUuid);
        std::ranges::transform(capitals, capitals.begin(), [](char c) { return c >= 'a' && c <= 'f' ? c - 32 : c; });
        require_refused({"delete", "--yes", capitals});
        require_refused({"import", "--replace", backup});
        require_refused({"group", "delete", "--yes", "--with-vtpms", "tenant"});
        REQUIRE(xen_vtpm({"create"}).status == 0);
    }
    REQUIRE(xen_vtpm({"import", "--replace", backup}).status == 0);
    REQUIRE(xen_vtpm({"delete", "--yes", kUuid}).status == 0);
}

TEST_CASE_METHOD(Fixture, "top shows each interval, once where nobody watches, and ends without the backend") {
    const Output away = xen_vtpm({"top"});
    CHECK(away.status == 6);
    CHECK_THAT(away.err, Contains("xen-vtpmd does not run"));
    REQUIRE(xen_vtpm({"create", kUuid}).status == 0);
    REQUIRE(xen_vtpm({"alias", kUuid, "web"}).status == 0);
    const DaemonOnTheBus backend(bus.address(), kBackendBus, device_with_engine(kUuid));
    const Output once = xen_vtpm({"top", "-d", "0.1"});
    CAPTURE(once.out, once.err);
    CHECK(once.status == 0);
    CHECK_THAT(once.out, Contains("1 TPMs run") && Contains("web") && Contains("4 us"));
    CHECK_THAT(xen_vtpm({"show", "web"}).out, Contains("errors: 0x922 1 times"));
    const Output thrice = xen_vtpm({"top", "-d", "0.1", "-n", "3"});
    std::size_t shown = 0;
    for (std::size_t at = 0; (at = thrice.out.find("TPMs run", at)) != std::string::npos; ++at) ++shown;
    CHECK(shown == 3);
    CHECK(xen_vtpm({"--json", "top", "-d", "0.1"}).out.find(R"("name": "web")") != std::string::npos);
    std::istringstream documents(xen_vtpm({"--json", "top", "-d", "0.1", "-n", "2"}).out);
    nlohmann::json first;
    nlohmann::json second;
    documents >> first >> second;
    CHECK((first.size() == 1 && second.size() == 1));
    CHECK(xen_vtpm({"top", "-d", "0"}).status == 2);
    CHECK(xen_vtpm({"top", "-d", "nan"}).status == 2);
}

TEST_CASE_METHOD(Fixture, "what destroys wants --yes where nobody can be asked") {
    REQUIRE(xen_vtpm({"create", kUuid}).status == 0);
    REQUIRE(xen_vtpm({"group", "create", "tenant", "--tpm-only"}).status == 0);
    const std::vector<std::vector<std::string>> commands{
        {"delete", kUuid}, {"group", "delete", "tenant"}, {"store", "reset"}};
    for (const auto &command : commands) {
        const Output refused = xen_vtpm(command);
        CAPTURE(refused.err);
        CHECK(refused.status == 5);
        CHECK_THAT(refused.err, Contains("Nothing was changed: say --yes to do it"));
    }
    REQUIRE(xen_vtpm({"show", kUuid}).status == 0);
    REQUIRE(xen_vtpm({"group", "show", "tenant"}).status == 0);
    // The word of release 0.1 did not ask.
    REQUIRE(xen_vtpm({"destroy", kUuid}).status == 0);
    REQUIRE(xen_vtpm({"show", kUuid}).status == 3);
}

TEST_CASE("a daemon of another version is told from one that fails") {
    const TemporaryDirectory directory;
    const PrivateBus bus{directory / "bus"};
    const DaemonOnTheBus manager(
        bus.address(), kManagerBus,
        {{"Show", "", "a{sv}", [](const bus::Arguments &) -> Result<bus::Reply> { return bus::Dictionary{}; }}});
    const std::vector<std::vector<std::string>> commands{{"show", kUuid}, {"group", "list"}};
    for (const auto &command : commands) {
        const Output refused = cli(bus.address(), command);
        CHECK(refused.status == 1);
        CHECK_THAT(refused.err, Contains("is of another version than this program"));
    }
}

TEST_CASE_METHOD(Fixture, "the life of a vTPM on the command line") {
    REQUIRE(answer({"list"}) == json::array());
    REQUIRE(xen_vtpm({"create", "--tpm-version", "1.2", kUuid}).out == std::string(kUuid) + "\n");
    REQUIRE(answer({"list"}).at(0).at("uuid") == kUuid);
    const json shown = answer({"show", kUuid});
    REQUIRE(shown.at("tpm") == "1.2");
    REQUIRE(shown.at("group") == "default");
    REQUIRE(shown.at("in_use") == false);
    REQUIRE(shown.at("sequence") == 0);
    REQUIRE(shown.at("devices") == json::array());
    REQUIRE(answer({"delete", "--yes", kUuid}).at("deleted") == true);
    REQUIRE(xen_vtpm({"show", kUuid}).status == 3);
}

TEST_CASE_METHOD(Fixture, "a vTPM is called by its alias, its guest's name or its UUID") {
    REQUIRE(xen_vtpm({"create", kUuid}).status == 0);
    REQUIRE(answer({"alias", kUuid, "shop"}).at("alias") == "shop");
    {
        BackendEnd backend(place.socket());
        OpenVtpm request;
        request.uuid = *Uuid::parse(kUuid);
        request.guest = "web-1";
        EngineEnd engine = std::move(*backend.exchange(request).engine);
        engine.send(PowerOn{});
        REQUIRE(engine.receive<PowerOnCommands>().code == ErrorCode::kNone);
        engine.store(Bytes(100, 1));
        REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
        REQUIRE(xen_vtpm({"list", "-H", "-o", "name,state,last-used"}).out == "shop\trunning\tnow\n");
    }
    for (const char *name : {"shop", "web-1", kUuid}) REQUIRE(answer({"show", name}).at("uuid") == kUuid);
    REQUIRE(answer({"show", "web-1"}).at("last_used").get<std::string>().size() == 20);
    REQUIRE_THAT(xen_vtpm({"list"}).out, Contains("NAME ") && Contains("LAST-USED") && Contains("shop  "));
    REQUIRE(xen_vtpm({"show", "nobody"}).status == 3);
    REQUIRE(xen_vtpm({"show", "7"}).status == 6);  // there is no backend
    REQUIRE(xen_vtpm({"list", "--unused", "1"}).status == 6);
    REQUIRE(xen_vtpm({"list", "-o", "size"}).status == 2);
    REQUIRE(xen_vtpm({"list", "--unused", "0"}).status == 2);
    for (const std::string &name :
         {std::string("--help"), std::string("a\nb"), std::string(200, 'a'), std::string("\xff"), std::string()})
        REQUIRE(xen_vtpm({"alias", kUuid, "--", name}).status == 2);
    REQUIRE(xen_vtpm({"alias", kUuid}).status == 2);
    REQUIRE(xen_vtpm({"alias", kUuid, "shop", "--remove"}).status == 2);
    REQUIRE(answer({"alias", "shop", "--remove"}).at("alias").get<std::string>().empty());
    REQUIRE(xen_vtpm({"show", "shop"}).status == 3);
    REQUIRE(answer({"delete", "--yes", "web-1"}).at("uuid") == kUuid);
}

TEST_CASE_METHOD(Fixture, "a created vTPM without a UUID gets a random one and the default version") {
    const auto first = answer({"create"}).at("uuid").get<std::string>();
    const auto second = answer({"create"}).at("uuid").get<std::string>();
    REQUIRE(Uuid::parse(first));
    REQUIRE(first != second);
    REQUIRE(answer({"show", first}).at("tpm") == "2.0");
}

TEST_CASE_METHOD(Fixture, "the status names the TPM, the policy and the store") {
    const json status = json::parse(xen_vtpm({"--json", "status"}).out);
    REQUIRE(status.at("manager").at("state") == "ready");
    REQUIRE(status.at("manager").at("sealing") == "tpm");
    REQUIRE(status.at("groups").at(0).at("pcrs") == "sha256:7");
    REQUIRE(status.at("manager").at("store") == place.state_directory() + "/store.db");
    REQUIRE(status.at("backend").at("running") == false);
    const Output text = xen_vtpm({"status"});
    REQUIRE(text.status == 6);  // no backend
    REQUIRE_THAT(text.out, Contains("SWTPM") && Contains("sha256:7") && Contains("backend       not running") &&
                               Contains("systemctl start xen-vtpmd"));
    manager.end(SIGTERM);
    const Output without = xen_vtpm({"status"});
    REQUIRE(without.status == 6);
    REQUIRE_THAT(without.out, Contains("manager       not running") && Contains("systemctl start xen-vtpm-managerd"));
}

TEST_CASE_METHOD(Fixture, "the life of a group on the command line") {
    REQUIRE(xen_vtpm({"group", "create", "tenant"}).status == 2);  // sealed to what?
    REQUIRE(xen_vtpm({"group", "create", "tenant", "--tpm-only", "--pcrs", "sha256:7"}).status == 2);
    REQUIRE(xen_vtpm({"group", "create", "tenant", "--pcrs", "sha256:77"}).status == 2);
    REQUIRE(answer({"group", "create", "tenant", "--pcrs", "sha256:0,7"}).at("pcrs") == "sha256:0,7");
    REQUIRE(answer({"group", "create", "loose", "--tpm-only"}).at("pcrs") == "");
    REQUIRE(answer({"group", "list"}).size() == 3);
    REQUIRE(xen_vtpm({"create", "--group", "nobody", kUuid}).status == 3);
    REQUIRE(answer({"create", "--group", "tenant", kUuid}).at("uuid") == kUuid);
    REQUIRE(answer({"show", kUuid}).at("group") == "tenant");
    REQUIRE(answer({"group", "show", "tenant"}).at("vtpms") == 1);
    REQUIRE(xen_vtpm({"group", "delete", "--yes", "tenant"}).status == 4);
    REQUIRE(xen_vtpm({"delete", "--yes", kUuid}).status == 0);
    REQUIRE(answer({"group", "delete", "--yes", "tenant"}).at("deleted") == true);
    REQUIRE(xen_vtpm({"group", "show", "tenant"}).status == 3);
}

namespace {

// An approver's machine: his key in a file, no daemon, no TPM.
struct ApproverFixture : Fixture {
    std::optional<ManagerProcess> restarted;

    ApproverFixture() {
        write("approver.pem", private_pem(p256()));
        write("approver.pub", public_pem(p256()));
    }
    void write(const char *name, const std::string &text) const { std::ofstream(directory / name) << text; }
    void restart() {
        if (restarted)
            restarted->end(SIGTERM);
        else
            manager.end(SIGTERM);
        restarted.emplace(place);
    }
    // What `policy measure` would say on a host with this TPM; read while no manager uses it.
    [[nodiscard]] std::string prediction() const {
        HardwareTpm tpm = expect(HardwareTpm::open(swtpm.tcti(), {}));
        json file{{"pcrs", "sha256:4,7"}, {"values", json::object()}};
        for (const auto &[pcr, value] : expect(tpm.read(expect(PcrSelection::parse("sha256:4,7")))))
            file["values"][std::to_string(pcr)] = to_hex(value);
        return file.dump();
    }
    // The firmware measures something else.
    void boot_something_else() const {
        const Esys esys = expect(connect_tpm(swtpm.tcti()));
        TPML_DIGEST_VALUES digests{1, {{TPM2_ALG_SHA256, {}}}};
        expect(checked("TPM2_PCR_Extend", [&] {
            return Esys_PCR_Extend(esys.get(), ESYS_TR_PCR4, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &digests);
        }));
    }
    [[nodiscard]] Output sign(std::vector<std::string> more) const {
        std::vector<std::string> arguments{"policy", "sign", "--key", directory / "approver.pem"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return cli("unix:path=/nonexistent", arguments);
    }
    [[nodiscard]] std::string signed_policy(const char *generation = "1") const {
        write("values.json", prediction());
        const Output policy =
            sign({"--group", "tenant", "--generation", generation, "--measurements", directory / "values.json"});
        CAPTURE(policy.err);
        REQUIRE(policy.status == 0);
        const std::string name = fmt::format("policy{}.json", generation);
        write(name.c_str(), policy.out);
        return directory / name.c_str();
    }
    [[nodiscard]] std::string refusal() const { return answer({"group", "show", "tenant"}).at("reason"); }
};

}  // namespace

TEST_CASE_METHOD(ApproverFixture, "an approver signs for a boot before it happens, and the group opens in it") {
    const json group = answer({"group", "create", "tenant", "--approver", directory / "approver.pub"});
    REQUIRE_THAT(group.at("approver").get<std::string>(), Contains("SHA256:"));
    REQUIRE(group.at("policies") == 0);
    REQUIRE_THAT(xen_vtpm({"group", "show", "tenant"}).out, Contains("NONE of generation 1"));
    REQUIRE(answer({"create", "--group", "tenant", kUuid}).at("uuid") == kUuid);

    restart();
    REQUIRE_THAT(refusal(), Contains("approved no boot of this host"));
    BackendEnd refused(place.socket());
    REQUIRE(refused.ask<OpenVtpm>(*Uuid::parse(kUuid)).code == ErrorCode::kRefused);

    restarted->end(SIGTERM);
    const std::string policy = signed_policy();
    restarted.emplace(place);
    const auto id = answer({"policy", "install", policy}).at("policy").get<std::string>();
    REQUIRE(refusal().empty());  // at once
    restart();
    REQUIRE(refusal().empty());
    BackendEnd backend(place.socket());
    backend.open(*Uuid::parse(kUuid));

    restarted->end(SIGTERM);
    boot_something_else();
    const std::string updated = signed_policy();
    restarted.emplace(place);
    REQUIRE_THAT(refusal(), Contains("PCR 4 approved 00") && Contains(id));
    REQUIRE_THAT(xen_vtpm({"status"}).out, Contains("'tenant' is locked") && Contains("PCR 4"));
    REQUIRE(answer({"policy", "install", updated}).at("group") == "tenant");
    REQUIRE(refusal().empty());
    REQUIRE(answer({"policy", "list"}).size() == 2);
    REQUIRE(answer({"policy", "remove", id}).at("removed") == true);
    REQUIRE(xen_vtpm({"policy", "remove", id}).status == 3);
    restart();
    REQUIRE(refusal().empty());
}

TEST_CASE_METHOD(ApproverFixture, "a group is renewed when its next generation is approved, and the former is void") {
    REQUIRE(answer({"group", "create", "tenant", "--approver", directory / "approver.pub"}).at("generation") == 1);
    manager.end(SIGTERM);
    const std::string former = signed_policy("1");
    const std::string next = signed_policy("2");
    restarted.emplace(place);
    const auto id = answer({"policy", "install", former}).at("policy").get<std::string>();
    const Output too_early = xen_vtpm({"group", "revoke-approvals", "tenant"});
    REQUIRE(too_early.status == 5);
    REQUIRE_THAT(too_early.err, Contains("policy sign --group tenant --generation 2"));
    REQUIRE_THAT(answer({"policy", "install", next}).at("reason").get<std::string>(),
                 Contains("group revoke-approvals tenant"));
    REQUIRE_THAT(xen_vtpm({"group", "show", "tenant"}).out, Contains("1 of generation 1, 1 of the next"));

    const json renewed = answer({"group", "revoke-approvals", "tenant"});
    REQUIRE(renewed.at("generation") == 2);
    REQUIRE(renewed.at("policies") == 1);
    REQUIRE(renewed.at("next_policies") == 0);
    REQUIRE(answer({"policy", "list"}).size() == 1);
    REQUIRE(xen_vtpm({"policy", "install", former}).status == 5);
    REQUIRE_THAT(xen_vtpm({"audit"}).out, Contains("group-renewed      tenant generation 2") &&
                                              Contains(id + " group tenant, generation 1 is over"));
    REQUIRE(xen_vtpm({"group", "revoke-approvals", "default"}).status == 7);
    REQUIRE(xen_vtpm({"group", "revoke-approvals", "nobody"}).status == 5);
    restarted->end(SIGKILL);
    restarted.emplace(place);
    REQUIRE(refusal().empty());
    REQUIRE_THAT(xen_vtpm({"group", "show", "tenant"}).out, Contains("1 of generation 2\n"));
}

TEST_CASE_METHOD(ApproverFixture, "an older store is refused until the administrator takes it") {
    const std::string copy = directory / "copy";
    REQUIRE(answer({"create", kUuid}).at("uuid") == kUuid);
    manager.end(SIGTERM);
    std::filesystem::copy(place.state_directory(), copy);
    restarted.emplace(place);
    restarted->end(SIGKILL);
    std::filesystem::remove_all(place.state_directory());  // with the log of what was written since
    std::filesystem::copy(copy, place.state_directory());
    restarted.emplace(place);
    REQUIRE_THAT(restarted->wait_for_status("refusing"), Contains("not the store that this host last used"));
    REQUIRE(xen_vtpm({"status"}).status == 5);
    REQUIRE(xen_vtpm({"recover"}).status == 2);
    REQUIRE(xen_vtpm({"group", "accept-rollback", "nobody"}).status == 3);
    REQUIRE(xen_vtpm({"group", "accept-rollback", "default"}).status == 0);
    REQUIRE(answer({"audit", "verify"}).back().at("event") == "rollback-accepted");
    REQUIRE_THAT(xen_vtpm({"audit"}).out, Contains("group-refused      default this is not the store"));
    REQUIRE(answer({"show", kUuid}).at("reason") == "");
    restart();
    REQUIRE(answer({"group", "show", "default"}).at("reason") == "");
}

TEST_CASE_METHOD(ApproverFixture, "after the mainboard died the recovery key opens the group on another TPM") {
    {
        BackendEnd backend(place.socket());
        EngineEnd engine = backend.open(*Uuid::parse(kUuid));
        engine.store(Bytes(100, 7));
        REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
    }
    const auto key = answer({"group", "recovery-key", "default"}).at("recovery_key").get<std::string>();
    REQUIRE(xen_vtpm({"group", "recovery-key", "default"}).status == 4);
    REQUIRE(answer({"group", "show", "default"}).at("recovery_key") == true);
    std::ofstream(directory / "key") << key << "\n";
    std::ofstream(directory / "wrong") << "0123-4567\n";
    REQUIRE(xen_vtpm({"export", kUuid, directory / "backup"}).status == 0);
    REQUIRE(xen_vtpm({"export", kUuid, directory / "backup"}).status == 4);
    manager.end(SIGKILL);

    const Swtpm other(directory / "other");
    ManagerPlace exchanged = place;
    exchanged.tcti = other.tcti();
    restarted.emplace(exchanged);
    REQUIRE_THAT(restarted->wait_for_status("refusing"), Contains("not the hardware TPM"));
    REQUIRE(xen_vtpm({"group", "recover", "default", "--recovery-key", directory / "wrong"}).status == 2);
    REQUIRE(xen_vtpm({"group", "recover", "default", "--recovery-key", directory / "backup"}).status == 2);
    REQUIRE(xen_vtpm({"group", "recover", "default", "--recovery-key", directory / "key", "--yes"}).status == 5);
    REQUIRE(
        xen_vtpm({"group", "recover", "default", "--recovery-key", directory / "key", "--new-tpm", "--yes"}).status ==
        0);
    restarted.emplace(exchanged);
    BackendEnd backend(place.socket());
    EngineEnd engine = backend.open(*Uuid::parse(kUuid));
    engine.load();
    REQUIRE(engine.receive<LoadedState>().state[0] == 7);
    REQUIRE(xen_vtpm({"import", directory / "backup", "--replace"}).status == 4);  // in use
    engine.close();
    REQUIRE(xen_vtpm({"import", directory / "backup"}).status == 4);
    REQUIRE(answer({"import", directory / "backup", "--replace"}).at("sequence") == 1);
    REQUIRE(answer({"audit", "verify"}).back().at("event") == "vtpm-imported");
}

TEST_CASE_METHOD(ApproverFixture, "a store that was removed is not begun anew without a word") {
    manager.end(SIGTERM);
    std::filesystem::remove_all(place.state_directory());
    std::filesystem::create_directory(place.state_directory());
    restarted.emplace(place);
    REQUIRE_THAT(restarted->wait_for_status("refusing"), Contains("the hardware TPM remembers one"));
    REQUIRE(xen_vtpm({"create", kUuid}).status == 5);
    REQUIRE(xen_vtpm({"store", "reset", "--yes"}).status == 0);
    REQUIRE(answer({"create", kUuid}).at("uuid") == kUuid);
}

TEST_CASE_METHOD(ApproverFixture, "an open group is sealed to an approver instead of PCRs, and back") {
    REQUIRE(answer({"group", "seal", "default", "--approver", directory / "approver.pub"}).at("pcrs") == "");
    REQUIRE(answer({"group", "seal", "default", "--pcrs", "sha256:7,4"}).at("pcrs") == "sha256:4,7");
    restart();
    REQUIRE(answer({"group", "show", "default"}).at("reason") == "");
    REQUIRE(answer({"group", "show", "default"}).at("approver") == "");
    REQUIRE(xen_vtpm({"group", "seal", "nobody", "--tpm-only"}).status == 3);
}

TEST_CASE_METHOD(ApproverFixture,
                 "a prediction that does not know a PCR is signed for the others only if that is said") {
    LogWriter log;
    log.spec_id().event(0, 8, 1, Bytes(4)).event(4, 0x80000003, 2, image("\\EFI\\debian\\shimx64.efi"));
    write("log", {reinterpret_cast<const char *>(log.bytes.data()), log.bytes.size()});
    for (const bool as_json : {true, false}) {
        std::vector<std::string> predict{"policy", "predict",          "--event-log", directory / "log",
                                         "--root", directory / "none", "--pcrs",      "sha256:0,2,4"};
        if (as_json) predict.emplace_back("--json");
        const Output predicted = cli("unix:path=/nonexistent", predict);
        CAPTURE(predicted.err);
        REQUIRE(predicted.status == 0);
        REQUIRE_THAT(predicted.out, Contains("\\shimx64.efi is not on this host"));
        write("next", predicted.out);
        REQUIRE_THAT(sign({"--measurements", directory / "next"}).err, Contains("does not know PCR 4"));
        const Output policy = sign({"--measurements", directory / "next", "--pcrs", "sha256:0,2"});
        CAPTURE(policy.err);
        REQUIRE(json::parse(policy.out).at("pcrs") == "sha256:0,2");
        REQUIRE_THAT(sign({"--measurements", directory / "next", "--pcrs", "sha256:0,4"}).err,
                     Contains("no value of PCR 4"));
    }
    REQUIRE(cli("unix:path=/nonexistent", {"policy", "measure", "--root", directory.path()}).status == 2);
}

TEST_CASE_METHOD(ApproverFixture, "what is no key, no policy or no prediction is told as such") {
    write("garbage", "garbage");
    const auto with_approver = [&](const char *file) {
        return xen_vtpm({"group", "create", "tenant", "--approver", directory / file});
    };
    REQUIRE_THAT(with_approver("garbage").err, Contains("no PEM file"));
    REQUIRE_THAT(with_approver("approver.pem").err, Contains("'PRIVATE KEY'"));
    REQUIRE_THAT(with_approver("none").err, Contains("cannot be read"));
    REQUIRE(xen_vtpm({"policy", "install", directory / "garbage"}).status == 2);
    REQUIRE_THAT(sign({"--measurements", directory / "garbage"}).err,
                 Contains("not what xen-vtpm policy measure prints"));
    write("values.json", prediction());
    REQUIRE_THAT(sign({"--measurements", directory / "values.json", "--pcrs", "sha256:4,8"}).err,
                 Contains("no value of PCR 8"));
    REQUIRE_THAT(sign({"--measurements", directory / "values.json", "--pcrs", "sha384:4"}).err,
                 Contains("not of sha384:4"));
    REQUIRE_THAT(sign({"--measurements", directory / "values.json", "--not-after", "soon"}).err,
                 Contains("no time such as"));
    for (const Output &unsaid : {sign({}), sign({"--measurements", directory / "values.json", "--this-host"})}) {
        REQUIRE(unsaid.status == 2);  // which boot it is is nobody's default
        REQUIRE(unsaid.out.empty());
        REQUIRE_THAT(unsaid.err, Contains("--this-host"));
    }
    const Output fewer = sign({"--measurements", directory / "values.json", "--pcrs", "sha256:4"});
    REQUIRE(json::parse(fewer.out).at("values").size() == 1);
}

TEST_CASE_METHOD(Fixture, "each failure has its exit status, a text, and JSON where asked for") {
    REQUIRE(xen_vtpm({}).status == 2);
    REQUIRE(xen_vtpm({"show"}).status == 2);
    REQUIRE(xen_vtpm({"create", "not-a-uuid"}).status == 2);
    REQUIRE(xen_vtpm({"show", "not-a-uuid"}).status == 3);  // and nobody's name
    REQUIRE(xen_vtpm({"create", "--tpm", "3.0"}).status == 2);
    REQUIRE(xen_vtpm({"delete", "--yes", kUuid}).status == 3);
    REQUIRE(xen_vtpm({"create", kUuid}).status == 0);
    REQUIRE(xen_vtpm({"create", kUuid}).status == 4);

    BackendEnd backend(place.socket());
    const EngineEnd engine = backend.open(*Uuid::parse(kUuid));
    REQUIRE(answer({"show", kUuid}).at("in_use") == true);
    const Output busy = xen_vtpm({"--json", "delete", "--yes", kUuid});
    REQUIRE(busy.status == 4);
    REQUIRE(busy.out.empty());
    const json error = json::parse(busy.err).at("error");
    REQUIRE(error.at("code") == "in-use");
    REQUIRE_THAT(error.at("text").get<std::string>(), Contains("shut its guest down"));
}

TEST_CASE_METHOD(Fixture, "a manager that does not run is told as such") {
    manager.end(SIGTERM);
    const Output output = xen_vtpm({"list"});
    REQUIRE(output.status == 6);
    REQUIRE_THAT(output.err, Contains("does not run") && Contains("systemctl"));
    REQUIRE(cli("unix:path=/nonexistent", {"list"}).status == 6);
}

TEST_CASE_METHOD(Fixture, "help and version need no daemon") {
    REQUIRE_THAT(cli("unix:path=/nonexistent", {"--help"}).out, Contains("delete"));
    REQUIRE(cli("unix:path=/nonexistent", {"--version"}).status == 0);
}

}  // namespace vtpm::cli_test
