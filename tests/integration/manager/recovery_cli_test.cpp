// SPDX-License-Identifier: Apache-2.0
// Recovery keys and backups as an administrator uses them: files that are redirected and read again, questions at a
// terminal; and a store that somebody changed who had the disk while the manager did not run.
#include <pty.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "manager/crypto/encoding.hpp"
#include "manager/hardware_tpm/hardware_tpm.hpp"
#include "manager/hardware_tpm/tpm_error.hpp"
#include "manager/store/database.hpp"
#include "manager_process.hpp"
#include "swtpm.hpp"
#include "tests/unit/manager/openssl_keys.hpp"

namespace vtpm::recovery_cli_test {
using nlohmann::json;

namespace {

constexpr const char *kUuid = "01234567-89ab-cdef-0123-456789abcdef";

std::string content(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    REQUIRE(file);
    return {std::istreambuf_iterator<char>(file), {}};
}

struct Fixture {
    TemporaryDirectory directory;
    Swtpm swtpm{directory / "tpm"};
    Swtpm other_tpm{directory / "other"};
    PrivateBus bus{directory / "bus"};
    UniqueFd journal = file_with({});
    ManagerPlace place{directory, swtpm.tcti(), bus.address(), {}, {}, journal.get()};
    std::optional<ManagerProcess> manager{std::in_place, place};

    void stop() {
        manager->end(SIGTERM);
        manager.reset();
    }
    void start() { manager.emplace(place); }
    void restart() {
        stop();
        start();
    }
    void exchange_tpm() {
        stop();
        place.tcti = other_tpm.tcti();
        start();
    }
    [[nodiscard]] std::string file(const char *name) const { return directory / name; }
    // As a shell does it: `xen-vtpm ARGUMENTS < in > NAME`.
    [[nodiscard]] Output xen_vtpm(std::vector<std::string> arguments, int in = -1) const {
        return cli(bus.address(), std::move(arguments), in);
    }
    std::string redirect(const char *name, std::vector<std::string> arguments) const {
        const Output output = xen_vtpm(std::move(arguments));
        CAPTURE(output.err);
        REQUIRE(output.status == 0);
        std::ofstream(file(name)) << output.out;
        return file(name);
    }
    void must(std::vector<std::string> arguments, int in = -1) const {
        const Output output = xen_vtpm(std::move(arguments), in);
        CAPTURE(output.err);
        REQUIRE(output.status == 0);
    }
    // By what is typed at a terminal.
    [[nodiscard]] Output asked(std::vector<std::string> arguments, const std::string &typed) const {
        int master = -1;
        int terminal = -1;
        REQUIRE(::openpty(&master, &terminal, nullptr, nullptr, nullptr) == 0);
        const UniqueFd ends[] = {UniqueFd(master), UniqueFd(terminal)};
        REQUIRE(::write(master, typed.data(), typed.size()) == static_cast<ssize_t>(typed.size()));
        return xen_vtpm(std::move(arguments), terminal);
    }
    [[nodiscard]] json group(const char *name = "default") const {
        return json::parse(xen_vtpm({"--json", "group", "show", name}).out);
    }
    [[nodiscard]] std::string refusal(const char *name = "default") const { return group(name).at("reason"); }
    // While no manager runs, by anyone who has the disk.
    void change_store(const std::string &sql) const {
        expect(expect(Database::open(place.state_directory() + "/store.db")).script(sql.c_str()));
    }
    static void copy_store(const std::string &from, const std::string &to) {
        std::filesystem::remove_all(to);
        std::filesystem::copy(from, to);
    }
    void store_a_state(std::uint8_t byte) const {
        BackendEnd backend(place.socket());
        EngineEnd engine = backend.open(*Uuid::parse(kUuid));
        engine.store(Bytes(100, byte));
        REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
        engine.close();
    }
    [[nodiscard]] std::uint8_t stored_state() const {
        BackendEnd backend(place.socket());
        EngineEnd engine = backend.open(*Uuid::parse(kUuid));
        engine.load();
        const std::uint8_t byte = engine.receive<LoadedState>().state[0];
        engine.close();
        return byte;
    }
    // The firmware measures something else: a dbx update.
    void boot_something_else() const {
        const Esys esys = expect(connect_tpm(swtpm.tcti()));
        TPML_DIGEST_VALUES digests{1, {{TPM2_ALG_SHA256, {}}}};
        expect(checked("TPM2_PCR_Extend", [&] {
            return Esys_PCR_Extend(esys.get(), ESYS_TR_PCR7, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &digests);
        }));
    }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "anyone who has the disk does not choose what a recovery seals to") {
    store_a_state(7);
    const std::string key = redirect("key", {"group", "recovery-key", "default"});
    stop();
    change_store("UPDATE groups SET pcrs = ''");
    start();
    REQUIRE_THAT(refusal(), Contains("group recover"));

    const Output checked = xen_vtpm({"group", "check-recovery", "default", "--recovery-key", key});
    REQUIRE(checked.status == 0);
    REQUIRE_THAT(checked.out, Contains("PCRs sha256:7 as they are now") && Contains("somebody changed the store"));
    for (const char *option : {"--accept-rollback", "--yes"}) {  // nobody is asked, and nothing is taken for granted
        const Output refused = xen_vtpm({"group", "recover", "default", "--recovery-key", key, option});
        REQUIRE(refused.status == 5);
        REQUIRE_THAT(refused.err, Contains("the store says that group 'default' is sealed to this TPM only") &&
                                      Contains("says sha256:7") && Contains("--pcrs"));
        REQUIRE_FALSE(refusal().empty());
    }
    const Output recovered = xen_vtpm({"group", "recover", "default", "--recovery-key", key, "--pcrs", "sha256:7"});
    REQUIRE(recovered.status == 0);
    REQUIRE_THAT(recovered.err, Contains("somebody changed the store"));
    REQUIRE_THAT(recovered.out, Contains("this TPM, PCRs sha256:7"));
    REQUIRE(stored_state() == 7);
    REQUIRE_THAT(xen_vtpm({"audit"}).out, Contains("group-recovered") && Contains("to sha256:7"));
    restart();
    REQUIRE(refusal().empty());
    stop();
    boot_something_else();
    start();
    REQUIRE_THAT(refusal(), Contains("PCR 7"));
}

TEST_CASE_METHOD(Fixture, "what an older store with its own manifest was sealed to is shown before it is sealed so") {
    must({"group", "create", "tenant", "--tpm-only"});
    const std::string key = redirect("key", {"group", "recovery-key", "tenant"});
    stop();
    copy_store(place.state_directory(), file("older"));
    start();
    must({"group", "seal", "tenant", "--pcrs", "sha256:7"});
    stop();
    copy_store(file("older"), place.state_directory());
    start();
    REQUIRE_THAT(refusal("tenant"), Contains("older copy of the store"));

    const Output older = xen_vtpm({"group", "recover", "tenant", "--recovery-key", key, "--yes"});
    REQUIRE(older.status == 5);
    REQUIRE_THAT(older.err, Contains("not the store that this host last used"));
    const Output unasked = xen_vtpm({"group", "recover", "tenant", "--recovery-key", key, "--accept-rollback"});
    REQUIRE(unasked.status == 5);
    REQUIRE_THAT(unasked.err, Contains("this TPM only, whatever it booted") && Contains("--yes"));
    must({"group", "recover", "tenant", "--recovery-key", key, "--accept-rollback", "--pcrs", "sha256:7"});
    REQUIRE(group("tenant").at("pcrs") == "sha256:7");
    REQUIRE(refusal("tenant").empty());
}

// A fake line, a colour, a byte that D-Bus does not take, an end of the text.
TEST_CASE_METHOD(Fixture, "what anyone wrote into the store is told on one line, and hides nothing else") {
    store_a_state(3);
    must({"group", "create", "tenant", "--tpm-only"});
    must({"create", "--group", "tenant"});
    const std::string words = "CAST(x'740a1b5b33316dff0061' AS TEXT)";
    const std::string change =
        GENERATE("UPDATE audit SET detail = {}", "UPDATE groups SET name = {} WHERE name = 'tenant'",
                 "UPDATE groups SET pcrs = {} WHERE name = 'tenant'",
                 "UPDATE vtpms SET algorithms = {} WHERE group_name = 'tenant'",
                 "UPDATE vtpms SET pcr_banks = {} WHERE group_name = 'tenant'",
                 "UPDATE vtpms SET group_name = {} WHERE group_name = 'tenant'",
                 "UPDATE vtpms SET uuid = upper(uuid) WHERE group_name = 'tenant'",
                 "UPDATE vtpms SET created = 9223372036854775807 WHERE group_name = 'tenant'",
                 "INSERT INTO policies VALUES ({0}, 'tenant', {0}, -1)");
    CAPTURE(change);
    stop();
    change_store(fmt::format(fmt::runtime(change), words));
    start();
    REQUIRE(refusal().empty());
    REQUIRE(stored_state() == 3);
    for (const std::vector<std::string> &command : std::vector<std::vector<std::string>>{
             {"status"}, {"list"}, {"group", "list"}, {"policy", "list"}, {"audit"}, {"--json", "list"}}) {
        const Output output = xen_vtpm(command);
        CAPTURE(command[0], output.out, output.err);
        REQUIRE(output.status == 0);
        REQUIRE_THAT(output.out, !Contains("\x1b") && !Contains("\n?") && !Contains("\xff"));
        if (command[0] != "policy" && command[0] != "audit") REQUIRE_THAT(output.out, Contains("default"));
    }
}

TEST_CASE_METHOD(Fixture, "a recovery is asked for at a terminal, and done when somebody says yes") {
    const std::string key = redirect("key", {"group", "recovery-key", "default"});
    stop();
    boot_something_else();
    start();
    const std::vector<std::string> recover{"group", "recover", "default", "--recovery-key", key};
    for (const char *no : {"n\n", "\n"}) {
        const Output refused = asked(recover, no);
        REQUIRE(refused.status == 5);
        REQUIRE_THAT(refused.err, Contains("PCRs sha256:7 as they are now") && Contains("[y/N]"));
        REQUIRE_FALSE(refusal().empty());
    }
    const Output unasked = xen_vtpm(recover);
    REQUIRE(unasked.status == 5);
    REQUIRE_THAT(unasked.err, Contains("nothing was changed") && Contains("--yes"));
    const Output recovered = asked(recover, "y\n");
    CAPTURE(recovered.err);
    REQUIRE(recovered.status == 0);
    REQUIRE(refusal().empty());
    REQUIRE(xen_vtpm({"group", "recover", "default", "--recovery-key", key, "--yes"}).status == 7);  // it is open
    restart();
    REQUIRE(refusal().empty());
}

TEST_CASE_METHOD(Fixture, "another TPM gets a group only if that is said, whatever the store calls its TPM") {
    store_a_state(5);
    const std::string key = redirect("key", {"group", "recovery-key", "default"});
    exchange_tpm();
    REQUIRE_THAT(refusal(), Contains("not the hardware TPM"));
    if (GENERATE(false, true)) {
        stop();
        auto database = expect(Database::open(place.state_directory() + "/store.db"));
        const HardwareTpm tpm = expect(HardwareTpm::open(other_tpm.tcti(), {}));
        expect(database.execute("UPDATE meta SET value = ? WHERE name = 'identity'", tpm.storage_key_name()));
    }
    if (!manager) start();
    for (const char *policy : {"--yes", "--tpm-only"}) {
        const Output refused = xen_vtpm({"group", "recover", "default", "--recovery-key", key, policy});
        REQUIRE(refused.status == 5);
        REQUIRE_THAT(refused.err, Contains("not the hardware TPM that group 'default' was last sealed to") &&
                                      Contains("--new-tpm") && Contains("somebody exchanged it"));
    }
    REQUIRE(expect(expect(HardwareTpm::open(other_tpm.tcti(), {})).nv_indices(0x0180a700, 0x0180a8ff)).empty());
    must({"group", "recover", "default", "--recovery-key", key, "--new-tpm", "--yes"});
    REQUIRE(stored_state() == 5);
    restart();
    REQUIRE(refusal().empty());
}

TEST_CASE_METHOD(Fixture, "an approver's group is recovered for him and his generation") {
    std::ofstream(file("approver.pub")) << public_pem(p256());
    must({"group", "create", "tenant", "--approver", file("approver.pub")});
    const std::string key = redirect("key", {"group", "recovery-key", "tenant"});
    stop();
    change_store("UPDATE groups SET approver = x'', pcrs = '' WHERE name = 'tenant'");
    start();
    REQUIRE_FALSE(refusal("tenant").empty());
    REQUIRE(xen_vtpm({"group", "recover", "tenant", "--recovery-key", key, "--yes"}).status == 5);
    REQUIRE(xen_vtpm({"group", "recover", "tenant", "--recovery-key", key, "--generation", "2"}).status == 2);
    must(
        {"group", "recover", "tenant", "--recovery-key", key, "--approver", file("approver.pub"), "--generation", "3"});
    REQUIRE(group("tenant").at("generation") == 3);
    REQUIRE_THAT(group("tenant").at("approver").get<std::string>(), Contains("SHA256:"));
    restart();  // no boot is approved
    REQUIRE(xen_vtpm({"group", "recover", "tenant", "--recovery-key", key, "--approver", file("approver.pub"),
                      "--generation", "2"})
                .status == 5);
    // A vTPM may be bound to the former one.
    std::ofstream(file("another.pub")) << public_pem(rsa_2048());
    REQUIRE(xen_vtpm({"group", "recover", "tenant", "--recovery-key", key, "--approver", file("another.pub"),
                      "--generation", "2"})
                .status == 5);
    must({"group", "recover", "tenant", "--recovery-key", key, "--yes"});
    REQUIRE(group("tenant").at("generation") == 3);
}

TEST_CASE_METHOD(Fixture,
                 "a recovery key that was redirected into a file is read from there, and from standard input") {
    const char *option = GENERATE("", "--json");
    std::vector<std::string> exported{"group", "recovery-key", "default"};
    if (*option != '\0') exported.emplace_back(option);
    const std::string key = redirect("key", exported);
    must({"group", "check-recovery", "default", "--recovery-key", key});
    must({"group", "check-recovery", "default"}, file_with(content(key)).get());
    must({"group", "check-recovery", "default"}, file_with("# from the vault\n" + content(key)).get());
    store_a_state(9);
    must({"export", kUuid, file("backup")});
    must({"delete", "--yes", kUuid});
    must({"import", file("backup"), "--recovery-key", key});
    REQUIRE(stored_state() == 9);
    must({"import", file("backup"), "--replace", "--recovery-key", "-"}, file_with(content(key)).get());
    exchange_tpm();
    must({"group", "recover", "default", "--new-tpm", "--yes"}, file_with(content(key)).get());
    exchange_tpm();
    REQUIRE(refusal().empty());
}

TEST_CASE_METHOD(Fixture, "a backup goes to standard output and comes from standard input, or a file") {
    store_a_state(4);
    const std::string piped = redirect("piped", {"export", kUuid, "-"});
    must({"export", kUuid, file("backup")});
    must({"import", "--replace", piped});
    must({"import", "--replace", "-"}, file_with(content(piped)).get());
    must({"import", "--replace", "-"}, file_with("# of the third of May\n" + content(file("backup"))).get());
    REQUIRE(stored_state() == 4);
}

TEST_CASE_METHOD(Fixture, "what the other commands print into files is read by those that are to read it") {
    const char *json_too = GENERATE("", "--json");
    const auto with_json = [&](std::vector<std::string> arguments) {
        if (*json_too != '\0') arguments.emplace_back(json_too);
        return arguments;
    };
    const auto both_ways = [&](std::vector<std::string> arguments, const std::string &path) {
        arguments.push_back(path);
        must(arguments);
        arguments.back() = "-";
        must(arguments, file_with(content(path)).get());
    };
    // A boot policy.
    std::ofstream(file("approver.pem")) << private_pem(p256());
    std::ofstream(file("approver.pub")) << public_pem(p256());
    must({"group", "create", "tenant", "--approver", file("approver.pub")});
    stop();
    {
        HardwareTpm tpm = expect(HardwareTpm::open(swtpm.tcti(), {}));
        const PcrValues values = expect(tpm.read(expect(PcrSelection::parse("sha256:4,7"))));
        std::ofstream(file("boot")) << "PCRs sha256:4,7\nPCR 4   " << to_hex(values.at(4))
                                    << "\n        EV_POST 00...\n"
                                    << "PCR 7   " << to_hex(values.at(7)) << "\n# words\n";
    }
    start();
    const std::string policy =
        redirect("policy.json", with_json({"policy", "sign", "--key", file("approver.pem"), "--group", "tenant",
                                           "--measurements", file("boot")}));
    both_ways({"policy", "install"}, policy);
    REQUIRE_THAT(xen_vtpm({"policy", "list"}).out, Contains("sha256:4,7"));
    // Whose TPM it is.
    const std::string host = redirect("host.json", with_json({"host", "identity"}));
    const std::string question = redirect(
        "challenge.json", with_json({"host", "challenge", host, "--any-tpm", "--write-answer", file("expected")}));
    both_ways({"host", "answer"}, question);
    REQUIRE(content(redirect("answer", {"host", "answer", question})) == content(file("expected")));
    must({"host", "challenge", "-", "--any-tpm", "--write-answer", file("again")}, file_with(content(host)).get());
}

TEST_CASE_METHOD(Fixture, "without a recovery key the status, the journal and each backup say so") {
    store_a_state(1);
    must({"group", "create", "tenant", "--tpm-only"});
    const auto told = [&](const char *group) {
        const std::string text = content(fmt::format("/proc/self/fd/{}", journal.get()));
        const std::string what = fmt::format("group '{}' has no recovery key", group);
        std::size_t times = 0;
        for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++times;
        return times;
    };
    REQUIRE(told("default") == 1);
    REQUIRE(told("tenant") == 1);
    restart();
    REQUIRE(told("default") == 2);  // at each start
    REQUIRE_THAT(xen_vtpm({"status"}).out, Contains("NO RECOVERY KEY") &&
                                               Contains("none of default: another mainboard, or an update that changes "
                                                        "its PCRs, loses its vTPMs for good") &&
                                               Contains("xen-vtpm group recovery-key default") &&
                                               Contains("xen-vtpm group recovery-key tenant"));
    const Output worthless = xen_vtpm({"export", kUuid, file("worthless")});
    REQUIRE_THAT(worthless.out, Contains("THE GROUP HAS NO RECOVERY KEY"));
    REQUIRE_THAT(xen_vtpm({"export", kUuid, "-"}).err, Contains("THE GROUP HAS NO RECOVERY KEY"));

    const std::string key = redirect("key", {"group", "recovery-key", "default"});
    redirect("tenants-key", {"group", "recovery-key", "tenant"});
    REQUIRE_THAT(xen_vtpm({"status"}).out, !Contains("RECOVERY KEY") && !Contains("recovery-key"));
    restart();
    REQUIRE(told("default") == 2);
    REQUIRE_THAT(xen_vtpm({"export", kUuid, file("good")}).out, Contains("with the recovery key of group 'default'"));
    REQUIRE_THAT(xen_vtpm({"group", "check-recovery", "default", "--recovery-key", key}).out,
                 Contains("This is the recovery key of group 'default'"));
    const Output others = xen_vtpm({"group", "check-recovery", "tenant", "--recovery-key", key});
    REQUIRE(others.status == 5);
    REQUIRE_THAT(others.err, Contains("not the recovery key of group 'tenant'"));
    std::ofstream(file("mistyped")) << content(key).substr(5);
    REQUIRE(xen_vtpm({"group", "check-recovery", "default", "--recovery-key", file("mistyped")}).status == 2);
}

}  // namespace vtpm::recovery_cli_test
