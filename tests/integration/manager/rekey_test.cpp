// SPDX-License-Identifier: Apache-2.0
// Another key for a group, by the real manager and a software TPM: while guests run, with a thousand vTPMs, and with
// the manager killed at each thing that it asks of the TPM.
#include <sys/wait.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "manager/crypto/encoding.hpp"
#include "manager/groups/manifest.hpp"
#include "manager/hardware_tpm/hardware_tpm.hpp"
#include "manager/hardware_tpm/tpm_error.hpp"
#include "manager/store/database.hpp"
#include "manager_process.hpp"
#include "swtpm.hpp"
#include "tests/unit/manager/openssl_keys.hpp"
#include "tpm_proxy.hpp"

namespace vtpm::rekey_test {
using nlohmann::json;
using Clock = std::chrono::steady_clock;

namespace {

const Bytes kForeign{1, 2, 3, 4, 5, 6, 7, 8};

constexpr std::size_t kStateSize = 20'000;  // of a TPM 2.0 that is in use

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

struct Fixture {
    TemporaryDirectory directory;
    Swtpm swtpm{directory / "tpm"};
    TpmProxy proxy{swtpm.path(), directory / "proxy"};
    PrivateBus bus{directory / "bus"};
    ManagerPlace place{directory, proxy.tcti(), bus.address()};
    std::optional<ManagerProcess> manager{std::in_place, place};
    const Uuid uuid = Uuid::random();

    void end(int signal = SIGTERM) {
        manager->end(signal);
        manager.reset();
    }
    void start() { manager.emplace(place); }
    [[nodiscard]] std::string file(const char *name) const { return directory / name; }
    [[nodiscard]] Output xen_vtpm(std::vector<std::string> arguments, std::string_view in = {}) const {
        const UniqueFd input = file_with(in);
        return cli(bus.address(), std::move(arguments), input.get());
    }
    std::string must(std::vector<std::string> arguments, std::string_view in = {}) const {
        const Output output = xen_vtpm(std::move(arguments), in);
        CAPTURE(output.err);
        REQUIRE(output.status == 0);
        return output.out;
    }
    [[nodiscard]] json group(const char *name = "default") const {
        return json::parse(must({"--json", "group", "show", name}));
    }
    [[nodiscard]] std::string refusal(const char *name = "default") const { return group(name).at("reason"); }
    // How often a group got another key.
    [[nodiscard]] int rekeys() const {
        int count = 0;
        for (const json &record : json::parse(must({"--json", "audit", "verify"})))
            count += record.at("event") == "group-rekeyed" ? 1 : 0;
        return count;
    }
    void store(BackendEnd &backend, const Uuid &vtpm, std::uint8_t byte, std::size_t size = 100) const {
        EngineEnd engine = backend.open(vtpm);
        engine.store(Bytes(size, byte));
        REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
        engine.close();
    }
    void store(std::uint8_t byte) const {
        BackendEnd backend(place.socket());
        store(backend, uuid, byte);
    }
    [[nodiscard]] std::uint8_t stored() const { return stored_of(uuid); }
    [[nodiscard]] std::uint8_t stored_of(const Uuid &vtpm) const {
        BackendEnd backend(place.socket());
        EngineEnd engine = backend.open(vtpm);
        engine.load();
        const auto loaded = engine.receive<LoadedState>();
        REQUIRE(loaded.code == ErrorCode::kNone);
        const std::uint8_t byte = loaded.state[0];
        engine.close();
        return byte;
    }
    // What a process that ended so left in the TPM: a resource manager does that.
    void flush() {
        proxy.set([](TPM2_CC, ByteView) { return TpmProxy::Fate{.lost = true}; });
        if (const auto esys = connect_tpm(proxy.tcti()))
            (void)capability(esys->get(), TPM2_CAP_HANDLES, TPM2_TRANSIENT_FIRST, 1);
        proxy.set({});
    }
    // Of all groups.
    [[nodiscard]] std::vector<std::uint32_t> nv_indices() const {
        return expect(expect(HardwareTpm::open(proxy.tcti(), {})).nv_indices(0x0180a700, 0x0180a9ff));
    }
    // Of somebody else, who has the owner's authorization too.
    void put_foreign_index(std::uint32_t index) const {
        expect(expect(HardwareTpm::open(proxy.tcti(), {})).nv_write(index, Bytes(5, 'f'), kForeign));
    }
    [[nodiscard]] bool has_foreign_index(std::uint32_t index) const {
        const auto content = expect(HardwareTpm::open(proxy.tcti(), {})).nv_read(index, Bytes(5, 'f'), kForeign.size());
        return content && std::ranges::equal(content->view(), kForeign);
    }
    // By who has the disk, while no manager runs.
    void run_sql(const std::string &sql) const {
        expect(expect(Database::open(place.state_directory() + "/store.db")).script(sql.c_str()));
    }
    void extend(ESYS_TR pcr) const {
        const Esys esys = expect(connect_tpm(proxy.tcti()));
        TPML_DIGEST_VALUES digests{1, {{TPM2_ALG_SHA256, {}}}};
        expect(checked("TPM2_PCR_Extend", [&] {
            return Esys_PCR_Extend(esys.get(), pcr, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &digests);
        }));
    }
};

// A guest that changes its TPM's state without end.
class Guest {
public:
    Guest(const ManagerPlace &place, const Uuid &uuid)
        : engine_(BackendEnd(place.socket()).open(uuid)), thread_([this] { run(); }) {}
    // What it saw; the longest time that a store took, in seconds.
    struct Seen {
        int stores = 0;
        int errors = 0;
        double longest = 0;
    };
    Seen end() {
        ending_ = true;
        thread_.join();
        return seen_;
    }

private:
    void run() {
        while (!ending_) {
            const auto begin = Clock::now();
            engine_.store(Bytes(kStateSize, static_cast<std::uint8_t>(seen_.stores)));
            const bool stored = engine_.receive<StoredState>().code == ErrorCode::kNone;
            seen_.longest = std::max(seen_.longest, seconds_since(begin));
            ++(stored ? seen_.stores : seen_.errors);
        }
    }
    std::atomic<bool> ending_ = false;
    Seen seen_;
    EngineEnd engine_;
    std::thread thread_;
};

}  // namespace

TEST_CASE_METHOD(Fixture, "a group gets another key, says what is to be done now, and opens by it from then on") {
    store(3);
    const std::string former = must({"group", "recovery-key", "default"});
    REQUIRE_THAT(xen_vtpm({"group", "recovery-key", "default"}).err,
                 Contains("older copies of the store") && Contains("xen-vtpm group rekey default"));
    const std::string fingerprint = json::parse(must({"--json", "ca", "show"})).at("fingerprint");
    must({"export", uuid.to_string(), file("backup")});
    const auto indices = nv_indices();

    const std::string told = must({"group", "rekey", "default"});
    REQUIRE_THAT(told, Contains("former recovery key is void") && Contains("xen-vtpm group recovery-key default") &&
                           Contains("destroy them"));
    REQUIRE(group().at("recovery_key") == false);
    REQUIRE(nv_indices() != indices);
    REQUIRE(nv_indices().size() == indices.size());
    REQUIRE(stored() == 3);
    REQUIRE(json::parse(must({"--json", "ca", "show"})).at("fingerprint") == fingerprint);
    must({"ca", "csr"});  // it signs
    REQUIRE_THAT(xen_vtpm({"group", "check-recovery", "default"}, former).err, Contains("has no recovery key"));
    const Output exported = xen_vtpm({"import", "--replace", file("backup")});
    REQUIRE(exported.status == 5);
    REQUIRE_THAT(exported.err, Contains("--recovery-key"));

    const std::string next = must({"group", "recovery-key", "default"});
    must({"group", "check-recovery", "default"}, next);
    REQUIRE(xen_vtpm({"group", "check-recovery", "default"}, former).status == 5);
    for (const int signal : {SIGTERM, SIGKILL}) {
        end(signal);
        if (signal == SIGKILL) flush();
        start();
        REQUIRE(refusal().empty());
        REQUIRE(stored() == 3);
    }
    REQUIRE(rekeys() == 1);
    REQUIRE(nv_indices().size() == indices.size());
    must({"group", "rekey", "--new-ca", "default"});
    REQUIRE(nv_indices() == indices);
    REQUIRE(json::parse(must({"--json", "ca", "show"})).at("fingerprint") != fingerprint);
    REQUIRE(stored() == 3);
}

TEST_CASE_METHOD(Fixture, "only a group that is open, in the boot that it is sealed to, gets another key") {
    must({"group", "create", "tenant", "--pcrs", "sha256:4"});
    REQUIRE(xen_vtpm({"group", "rekey", "nobody"}).status == 3);
    extend(ESYS_TR_PCR4);  // after it was opened
    const Output changed = xen_vtpm({"group", "rekey", "tenant"});
    REQUIRE(changed.status == 5);
    REQUIRE_THAT(changed.err,
                 Contains("group 'tenant' keeps its key") && Contains("the PCRs sha256:4") && Contains("group seal"));
    end();
    start();
    const Output refused = xen_vtpm({"group", "rekey", "tenant"});
    REQUIRE(refused.status == 5);
    REQUIRE_THAT(refused.err,
                 Contains("PCR 4") && Contains("xen-vtpm group open tenant") && Contains("group recover tenant"));
    REQUIRE(rekeys() == 0);
    must({"group", "rekey", "default"});
    REQUIRE(nv_indices().size() == 4);
}

TEST_CASE_METHOD(Fixture,
                 "NV indices of another owner where ours may be are left alone, and nobody takes them for ours") {
    end();
    for (const std::uint32_t index : {0x0180a701U, 0x0180a802U, 0x0180a900U, 0x0180a905U}) put_foreign_index(index);
    const auto are_there = [&] {
        for (const std::uint32_t index : {0x0180a701U, 0x0180a802U, 0x0180a900U, 0x0180a905U})
            REQUIRE(has_foreign_index(index));
    };
    start();
    REQUIRE(refusal().empty());
    REQUIRE(json::parse(must({"--json", "status"})).at("manager").at("lost_group") == "");
    store(1);                                           // a vTPM that nobody knew
    must({"group", "create", "tenant", "--tpm-only"});  // beside them
    REQUIRE(group("tenant").at("reason") == "");
    const Output rekeyed = xen_vtpm({"group", "rekey", "default"});
    REQUIRE(rekeyed.status == 5);
    REQUIRE_THAT(rekeyed.err, Contains("group 'default' keeps its key") && Contains("another owner") &&
                                  Contains("tpm2_nvundefine -C o 0x180a900"));
    must({"group", "rekey", "tenant"});
    must({"group", "delete", "--yes", "tenant"});
    are_there();
    end();
    start();
    REQUIRE(refusal().empty());
    are_there();
    expect(expect(HardwareTpm::open(proxy.tcti(), {})).nv_remove(0x0180a900));
    must({"group", "rekey", "default"});
    REQUIRE(stored() == 1);
}

TEST_CASE_METHOD(Fixture,
                 "a TPM without room for another index leaves a group its key, and what is to be done is said") {
    store(4);
    std::uint32_t filler = 0x01800000;
    {
        HardwareTpm tpm = expect(HardwareTpm::open(proxy.tcti(), {}));
        for (const std::size_t size : {1000U, 1U})
            while (tpm.nv_write(filler, {}, Bytes(size))) ++filler;
    }
    const auto indices = nv_indices();
    const Output rekeyed = xen_vtpm({"group", "rekey", "default"});
    REQUIRE(rekeyed.status == 5);
    REQUIRE_THAT(rekeyed.err, Contains("group 'default' keeps its key") && Contains("no room for another NV index") &&
                                  Contains("a third while it gets another key"));
    REQUIRE(nv_indices() == indices);
    REQUIRE(rekeys() == 0);
    REQUIRE(stored() == 4);
    for (int i = 0; i < 3; ++i) expect(expect(HardwareTpm::open(proxy.tcti(), {})).nv_remove(--filler));
    must({"group", "rekey", "default"});
    REQUIRE(stored() == 4);
}

// By who sits on the TPM's bus.
TEST_CASE_METHOD(Fixture, "whoever answers in the TPM's place for its saved primary stops nothing for good") {
    must({"ca", "show"});  // the primary is saved
    std::atomic<int> changed = 0;
    SECTION("another handle") {
        proxy.set([&](TPM2_CC command, ByteView) {
            TpmProxy::Fate fate;
            if (command == TPM2_CC_ContextLoad)
                fate.change = [&](Bytes &response) {
                    if (response.size() == 14) ++changed, response.back() ^= 1;
                };
            return fate;
        });
    }
    SECTION("nothing") {
        proxy.set([&](TPM2_CC command, ByteView) {
            TpmProxy::Fate fate;
            if (command == TPM2_CC_ContextLoad) ++changed, fate.answer = TPM2_RC_INTEGRITY;
            return fate;
        });
    }
    SECTION("a session of his") {
        proxy.set([&](TPM2_CC command, ByteView) {
            TpmProxy::Fate fate;
            if (command == TPM2_CC_StartAuthSession)
                fate.change = [&](Bytes &response) { ++changed, response.back() ^= 1; };
            return fate;
        });
    }
    const Output rekeyed = xen_vtpm({"group", "rekey", "default"});
    CAPTURE(rekeyed.err, rekeyed.status);
    REQUIRE(changed > 0);
    proxy.set({});
    end(SIGKILL);
    flush();
    start();
    REQUIRE(refusal().empty());
    must({"group", "rekey", "default"});
}

// What the row says of the PCRs' values is for the words of a refusal: it has no say in what may be done.
TEST_CASE_METHOD(Fixture, "whoever changes what a group's row says of its PCRs' values changes nothing of a rekey") {
    must({"group", "create", "tenant", "--pcrs", "sha256:4"});
    end();
    SECTION("to others than they are") {
        run_sql("UPDATE groups SET pcr_values = randomblob(32) WHERE name = 'tenant'");
        start();
        REQUIRE(refusal("tenant").empty());
        must({"group", "rekey", "tenant"});
        end();
        start();
        REQUIRE(refusal("tenant").empty());
    }
    SECTION("to those that they will be") {
        Bytes next(64, 0);
        next = digest_of(next);  // once it is extended by zeros
        run_sql(fmt::format("UPDATE groups SET pcr_values = x'{:02x}' WHERE name = 'tenant'", fmt::join(next, "")));
        start();
        REQUIRE(refusal("tenant").empty());
        extend(ESYS_TR_PCR4);
        const Output rekeyed = xen_vtpm({"group", "rekey", "tenant"});
        REQUIRE(rekeyed.status == 5);
        REQUIRE_THAT(rekeyed.err, Contains("the PCRs sha256:4") && Contains("group seal tenant --pcrs sha256:4"));
    }
}

// Of the former keys, and what was under them.
TEST_CASE_METHOD(Fixture, "nothing from before a rekey is left in the store's files") {
    BackendEnd backend(place.socket());
    std::vector<Uuid> vtpms;
    for (int i = 0; i < 20; ++i) store(backend, vtpms.emplace_back(Uuid::random()), 1, kStateSize);
    must({"group", "recovery-key", "default"});
    end();
    std::vector<std::string> before;
    {
        Database database = expect(Database::open(place.state_directory() + "/store.db"));
        for (const char *const sql :
             {"SELECT hex(private_area) FROM groups", "SELECT hex(recovery) FROM groups",
              "SELECT hex(wrapped_key) FROM vtpms", "SELECT hex(substr(envelope, 100, 64)) FROM states",
              "SELECT hex(substr(envelope, -64)) FROM states"}) {
            Statement row = expect(database.prepare(sql));
            while (expect(row.step())) before.push_back(row.text(0));
        }
    }
    REQUIRE(before.size() == 62);
    start();
    must({"group", "rekey", "default"});
    std::string files;
    for (const auto &entry : std::filesystem::directory_iterator(place.state_directory())) {
        std::ifstream file(entry.path(), std::ios::binary);
        const std::string content((std::istreambuf_iterator<char>(file)), {});
        files += to_hex(bytes_of(content));
    }
    for (std::string &part : before) {
        std::ranges::transform(part, part.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        REQUIRE(part.size() > 64);
        CHECK(files.find(part.substr(part.size() - 64)) == std::string::npos);
    }
    REQUIRE(stored_of(vtpms.front()) == 1);
}

// A thief who has a copy of the disk from before, and the recovery key of then.
TEST_CASE_METHOD(Fixture, "a copy of the store from before a rekey opens what it had then, and only if that is said") {
    store(1);
    const std::string former = must({"group", "recovery-key", "default"});
    end();
    std::filesystem::copy(place.state_directory(), file("older"));
    start();
    must({"group", "rekey", "default"});
    store(2);
    end();
    std::filesystem::rename(place.state_directory(), file("present"));
    std::filesystem::copy(file("older"), place.state_directory());
    start();
    REQUIRE_THAT(refusal(), Contains("older copy of the store"));
    REQUIRE(xen_vtpm({"group", "accept-rollback", "default"}).status == 5);
    const Output recovered = xen_vtpm({"group", "recover", "default", "--yes"}, former);
    REQUIRE(recovered.status == 5);
    REQUIRE_THAT(recovered.err, Contains("accept-rollback"));
    must({"group", "recover", "default", "--yes", "--accept-rollback"}, former);
    REQUIRE(stored() == 1);
    end();

    const Swtpm other(directory / "other");  // knows nothing
    std::filesystem::remove_all(place.state_directory());
    std::filesystem::copy(file("older"), place.state_directory());
    place.tcti = other.tcti();
    start();
    must({"group", "recover", "default", "--yes", "--new-tpm"}, former);
    REQUIRE(stored() == 1);
    end();
    std::filesystem::remove_all(place.state_directory());
    std::filesystem::copy(file("present"), place.state_directory());
    start();
    REQUIRE_THAT(xen_vtpm({"group", "recover", "default", "--yes", "--new-tpm"}, former).err,
                 Contains("has no recovery key"));
    end();
}

TEST_CASE_METHOD(Fixture, "a manager that is killed at any step of a rekey leaves a store that opens") {
    must({"ca", "show"});
    store(0);
    std::uint8_t byte = 0;
    int done = 0;
    int steps[2] = {};
    for (const bool heard : {false, true})  // whether the TPM did what it was asked
        for (int step = 0;; ++step) {
            CAPTURE(heard, step);
            std::atomic<int> count = 0;
            const pid_t pid = manager->pid();
            const auto kill = [pid](Bytes &) { ::kill(pid, SIGKILL); };
            proxy.set([&](TPM2_CC, ByteView) {
                TpmProxy::Fate fate;
                if (const int now = count++; now == step) {
                    fate.change = kill;
                    if (!heard) fate.answer = TPM2_RC_FAILURE;
                } else if (now > step) {
                    fate.answer = TPM2_RC_FAILURE;
                }
                return fate;
            });
            const Output rekeyed = xen_vtpm({"group", "rekey", "default"});
            const bool killed = count > step;
            proxy.set({});
            if (!killed) {
                CAPTURE(rekeyed.err);
                REQUIRE(rekeyed.status == 0);
            }
            end(SIGKILL);
            flush();
            start();
            REQUIRE(stored() == byte);
            store(++byte);
            REQUIRE(nv_indices().size() == 2);
            if (killed && step % 8 != 0) continue;
            must({"ca", "csr"});
            const int now = rekeys();
            REQUIRE((now > done || killed));
            done = now;
            if (!killed) {
                steps[heard ? 1 : 0] = step;
                break;
            }
        }
    REQUIRE(steps[0] > 15);
    REQUIRE(done > 2);
    fmt::print("killed at each of {} and {} commands of a rekey; {} times the new key was in the store\n", steps[0],
               steps[1], done);
}

TEST_CASE_METHOD(Fixture, "a thousand vTPMs get other keys in seconds, no guest sees an error, and a kill leaves all") {
    constexpr int kVtpms = 1000;
    constexpr int kRunning = 4;
    constexpr int kKills = 5;
    constexpr double kGoal = 5;
    std::vector<Uuid> vtpms;
    {
        BackendEnd backend(place.socket());
        for (int i = 0; i < kVtpms; ++i) {
            vtpms.push_back(Uuid::random());
            store(backend, vtpms.back(), static_cast<std::uint8_t>(i), kStateSize);
        }
    }
    std::vector<std::unique_ptr<Guest>> guests;
    for (int i = 0; i < kRunning; ++i) guests.push_back(std::make_unique<Guest>(place, vtpms.at(i)));
    const auto begin = Clock::now();
    must({"group", "rekey", "default"});
    const double took = seconds_since(begin);
    Guest::Seen all;
    for (const auto &guest : guests) {
        const Guest::Seen seen = guest->end();
        all = {all.stores + seen.stores, all.errors + seen.errors, std::max(all.longest, seen.longest)};
    }
    REQUIRE(all.errors == 0);
    REQUIRE(all.stores > 0);
    fmt::print(
        "another key for a group of {} vTPMs, each with {} bytes: {:.2f} s; {} guests stored {} times meanwhile, the "
        "longest took {:.2f} s\n",
        kVtpms, kStateSize, took, kRunning, all.stores, all.longest);
    CHECK(took <= kGoal);

    REQUIRE(json::parse(must({"--json", "list"})).size() == kVtpms);
    REQUIRE(group().at("vtpms") == kVtpms);
    const auto all_are_there = [&] {
        BackendEnd backend(place.socket());
        for (int i = kRunning; i < kVtpms; ++i) {
            EngineEnd engine = backend.open(vtpms.at(i));
            engine.load();
            const auto loaded = engine.receive<LoadedState>();
            REQUIRE(loaded.code == ErrorCode::kNone);
            REQUIRE(loaded.state.size() == kStateSize);
            REQUIRE(loaded.state[0] == static_cast<std::uint8_t>(i));
            engine.close();
        }
    };
    all_are_there();
    int kills = 0;
    for (int part = 1; part <= kKills; ++part) {  // at moments of which most are in the transaction
        std::jthread killer([&] {
            std::this_thread::sleep_for(std::chrono::duration<double>(took * part / kKills));
            ::kill(manager->pid(), SIGKILL);
        });
        kills += xen_vtpm({"group", "rekey", "default"}).status == 0 ? 0 : 1;
        killer.join();
        end(SIGKILL);
        flush();
        start();
        REQUIRE(refusal().empty());
        REQUIRE(nv_indices().size() == 2);
        all_are_there();
    }
    REQUIRE(kills > 0);
}

}  // namespace vtpm::rekey_test
