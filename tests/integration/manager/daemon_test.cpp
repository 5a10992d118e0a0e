// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <thread>

#include "manager_process.hpp"
#include "swtpm.hpp"

namespace vtpm::daemon_test {

namespace {

std::string read_file(const std::filesystem::path &path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

bool files_contain(const std::string &directory, const std::string &text) {
    return std::ranges::any_of(std::filesystem::directory_iterator(directory), [&](const auto &entry) {
        return read_file(entry.path()).find(text) != std::string::npos;
    });
}

std::uint64_t store(EngineEnd &&engine, ByteView state) {
    engine.store(state);
    return engine.receive<StoredState>().sequence;
}

std::uint64_t store(EngineEnd &engine, ByteView state) {
    engine.store(state);
    const auto stored = engine.receive<StoredState>();
    REQUIRE(stored.code == ErrorCode::kNone);
    return stored.sequence;
}

// xen-vtpm, which waits until the TPM has sealed its key.
Process group_in_the_making(const PrivateBus &bus) {
    return Process(
        {{VTPM_CLI, "group", "create", "tenant", "--tpm-only"}, {{"DBUS_SYSTEM_BUS_ADDRESS", bus.address()}}, {}});
}

struct Fixture {
    TemporaryDirectory directory;
    std::optional<Swtpm> swtpm{std::in_place, directory / "tpm"};
    ManagerPlace place{directory, swtpm->tcti(), "unix:path=/nonexistent", {}};
    const Uuid uuid = Uuid::random();
    const std::string known = "a known value of the guest's NV";
    const Bytes state = Bytes(known.begin(), known.end());
};

}  // namespace

TEST_CASE_METHOD(Fixture, "what was stored is there after a restart, and lies nowhere in plain text") {
    {
        ManagerProcess manager(place);
        BackendEnd backend(place.socket());
        EngineEnd engine = backend.open(uuid);
        REQUIRE(store(engine, state) == 1);
        REQUIRE_FALSE(files_contain(place.state_directory(), known));  // -wal included
        REQUIRE(WIFEXITED(manager.end(SIGTERM)));
    }
    ManagerProcess manager(place);
    BackendEnd backend(place.socket());
    EngineEnd engine = backend.open(uuid);
    engine.load();
    const auto loaded = engine.receive<LoadedState>();
    REQUIRE(loaded.sequence == 1);
    REQUIRE(std::ranges::equal(loaded.state, state));
    REQUIRE_FALSE(files_contain(place.state_directory(), known));
}

TEST_CASE_METHOD(Fixture, "an exchanged TPM makes the manager refuse, with the reason; the right one ends that") {
    const PrivateBus bus(directory / "bus");
    place.bus_address = bus.address();
    {
        ManagerProcess manager(place);
        BackendEnd backend(place.socket());
        EngineEnd engine = backend.open(uuid);
        store(engine, state);
    }
    const Swtpm other(directory / "other");
    ManagerPlace exchanged = place;
    exchanged.tcti = other.tcti();
    {
        ManagerProcess manager(exchanged);
        REQUIRE_THAT(manager.wait_for_status("refusing"), Contains("not the hardware TPM that sealed this store"));
        BackendEnd backend(place.socket());
        const Answer answer = backend.ask<PrepareVtpm>(uuid);
        REQUIRE(answer.code == ErrorCode::kRefused);
        REQUIRE_THAT(answer.text, Contains("not the hardware TPM that sealed this store"));
        REQUIRE(backend.ask<OpenVtpm>(uuid).code == ErrorCode::kRefused);
        REQUIRE(backend.ask<PrepareVtpm>(Uuid::random()).code == ErrorCode::kRefused);
        REQUIRE(cli(bus.address(), {"create"}).status == 5);
        const Output status = cli(bus.address(), {"status"});
        REQUIRE(status.status == 5);
        REQUIRE_THAT(status.out, Contains("locked") && Contains("not the hardware TPM"));
    }
    ManagerProcess manager(place);
    BackendEnd backend(place.socket());
    EngineEnd engine = backend.open(uuid);
    engine.load();
    REQUIRE(std::ranges::equal(engine.receive<LoadedState>().state, state));
}

TEST_CASE_METHOD(Fixture, "a TPM that is away at the start is found later, without a restart") {
    swtpm.reset();
    std::filesystem::remove(directory / "tpm/tpm");
    ManagerProcess manager(place);
    manager.wait_for_status("refusing");
    BackendEnd backend(place.socket());
    REQUIRE(backend.ask<PrepareVtpm>(uuid).code == ErrorCode::kUnavailable);
    swtpm.emplace(directory / "tpm");
    manager.wait_for_status("ready");
    backend.open(uuid);
}

TEST_CASE_METHOD(Fixture, "a hardware TPM that does not answer holds up those who need it, and nobody else") {
    const PrivateBus bus(directory / "bus");
    place.bus_address = bus.address();
    ManagerProcess manager(place);
    BackendEnd backend(place.socket());
    EngineEnd engine = backend.open(uuid);
    store(engine, state);
    ::kill(swtpm->pid(), SIGSTOP);
    Process creating = group_in_the_making(bus);
    EngineEnd new_engine = backend.open(Uuid::random());
    new_engine.send(ManufactureStep{});  // wants the TPM's entropy
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    std::uint64_t stores = 1;
    Output status{};
    while (status.out.find("has not answered for") == std::string::npos) {
        REQUIRE(std::chrono::steady_clock::now() < limit);
        for (int i = 0; i < 20; ++i) stores = store(engine, state);
        status = cli(bus.address(), {"status"});
        REQUIRE(status.status == 6);  // no backend
    }
    REQUIRE(stores > 100);
    REQUIRE(backend.ask<PrepareVtpm>(uuid).code == ErrorCode::kNone);
    REQUIRE(cli(bus.address(), {"list"}).status == 0);

    ::kill(swtpm->pid(), SIGCONT);
    const auto command = new_engine.receive<ManufactureCommand>();
    REQUIRE(command.code == ErrorCode::kNone);
    REQUIRE_FALSE(command.command.empty());
    REQUIRE(creating.wait() == 0);
    REQUIRE_THAT(cli(bus.address(), {"group", "list"}).out, Contains("tenant"));
    REQUIRE_THAT(cli(bus.address(), {"status"}).out, !Contains("has not answered"));
}

TEST_CASE_METHOD(Fixture, "who waits for the hardware TPM is told so, and waits as long as it takes") {
    const PrivateBus bus(directory / "bus");
    place.bus_address = bus.address();
    ManagerProcess manager(place);
    ::kill(swtpm->pid(), SIGSTOP);
    std::jthread later([&] {
        std::this_thread::sleep_for(std::chrono::seconds(11));
        ::kill(swtpm->pid(), SIGCONT);
    });
    const Output created = cli(bus.address(), {"group", "create", "tenant", "--tpm-only"});
    REQUIRE(created.status == 0);
    REQUIRE_THAT(created.err, Contains("has not done it yet after 10 s") && Contains("xen-vtpm status"));
}

TEST_CASE_METHOD(Fixture, "a manager whose TPM does not answer ends all the same, and nothing is lost") {
    const PrivateBus bus(directory / "bus");
    place.bus_address = bus.address();
    {
        ManagerProcess manager(place);
        BackendEnd backend(place.socket());
        EngineEnd engine = backend.open(uuid);
        store(engine, state);
        ::kill(swtpm->pid(), SIGSTOP);
        const Process creating = group_in_the_making(bus);
        std::this_thread::sleep_for(std::chrono::milliseconds(500));
        store(engine, state);
        const int ended = manager.end(SIGTERM);
        REQUIRE(WIFEXITED(ended));
        REQUIRE(WEXITSTATUS(ended) == EXIT_FAILURE);
    }
    ::kill(swtpm->pid(), SIGCONT);
    ManagerProcess manager(place);
    BackendEnd backend(place.socket());
    EngineEnd engine = backend.open(uuid);
    engine.load();
    REQUIRE(engine.receive<LoadedState>().sequence == 2);
}

TEST_CASE_METHOD(Fixture,
                 "a TPM that stops answering when nobody asks it anything does not keep the manager from its end") {
    {
        ManagerProcess manager(place);
        BackendEnd backend(place.socket());
        EngineEnd engine = backend.open(uuid);
        store(engine, state);
        ::kill(swtpm->pid(), SIGSTOP);
        const auto began = std::chrono::steady_clock::now();
        const int ended = manager.end(SIGTERM);
        REQUIRE(std::chrono::steady_clock::now() - began < std::chrono::seconds(35));  // TimeoutStopSec=40
        REQUIRE(WIFEXITED(ended));
        REQUIRE(WEXITSTATUS(ended) == EXIT_FAILURE);
    }
    ::kill(swtpm->pid(), SIGCONT);
    ManagerProcess manager(place);
    BackendEnd backend(place.socket());
    EngineEnd engine = backend.open(uuid);
    engine.load();
    REQUIRE(engine.receive<LoadedState>().sequence == 1);
}

TEST_CASE_METHOD(Fixture, "an engine that goes while its TPM is made harms nobody") {
    ManagerProcess manager(place);
    BackendEnd backend(place.socket());
    ::kill(swtpm->pid(), SIGSTOP);
    {
        EngineEnd engine = backend.open(uuid);
        engine.send(ManufactureStep{});
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    ::kill(swtpm->pid(), SIGCONT);
    EngineEnd engine = backend.open(uuid);
    engine.send(ManufactureStep{});
    REQUIRE(engine.receive<ManufactureCommand>().code == ErrorCode::kNone);
    engine.send(ManufactureStep{Bytes(3)});
    REQUIRE(engine.receive<ManufactureCommand>().code == ErrorCode::kRefused);
    engine.send(ManufactureStep{Bytes(30)});  // a response to no command
    REQUIRE(engine.closed());
}

TEST_CASE_METHOD(Fixture, "acknowledged stores survive kill -9, and none is half there") {
    constexpr int kKills = 40;
    constexpr std::size_t kVtpms = 3;
    struct Guest {
        Uuid uuid = Uuid::random();
        std::uint64_t acknowledged = 0;
    };
    std::array<Guest, kVtpms> guests;
    const auto state_of = [](const Guest &guest, std::uint64_t sequence) {
        return Bytes(5000 + sequence % 1000, static_cast<std::uint8_t>(sequence ^ guest.uuid.bytes[0]));
    };
    for (int i = 0; i < kKills; ++i) {
        ManagerProcess manager(place);
        BackendEnd backend(place.socket());
        std::vector<EngineEnd> engines;
        for (Guest &guest : guests) {
            EngineEnd &engine = engines.emplace_back(backend.open(guest.uuid));
            engine.load();
            const auto loaded = engine.receive<LoadedState>();
            CAPTURE(i, guest.acknowledged, loaded.sequence, loaded.text);
            REQUIRE((loaded.code == ErrorCode::kNone || (loaded.code == ErrorCode::kNotFound && i == 0)));
            // One more may have become durable while the manager was killed; its content is then what was sent.
            REQUIRE(loaded.sequence >= guest.acknowledged);
            REQUIRE(loaded.sequence <= guest.acknowledged + 1);
            if (loaded.code == ErrorCode::kNone)
                REQUIRE(std::ranges::equal(loaded.state, state_of(guest, loaded.sequence)));
            guest.acknowledged = loaded.sequence;
        }
        for (int round = std::rand() % 8; round > 0; --round) {
            for (std::size_t g = 0; g < kVtpms; ++g) engines[g].store(state_of(guests[g], guests[g].acknowledged + 1));
            for (std::size_t g = 0; g < kVtpms; ++g) {
                REQUIRE(engines[g].receive<StoredState>().sequence == guests[g].acknowledged + 1);
                ++guests[g].acknowledged;
            }
        }
        for (std::size_t g = 0; g < kVtpms; ++g) engines[g].store(state_of(guests[g], guests[g].acknowledged + 1));
        ::usleep(static_cast<useconds_t>(std::rand() % 2000));
        manager.end(SIGKILL);
    }
}

TEST_CASE_METHOD(Fixture, "a backup that is made while a guest writes is a store that opens") {
    const PrivateBus bus(directory / "bus");
    place.bus_address = bus.address();
    const std::string file = directory / "backup.db";
    std::uint64_t before = 0;
    std::uint64_t after = 0;
    {
        ManagerProcess manager(place);
        BackendEnd backend(place.socket());
        EngineEnd engine = backend.open(uuid);
        const Bytes large(200'000, 1);
        for (int i = 0; i < 20; ++i) store(backend.open(Uuid::random()), large);
        before = store(engine, state);
        std::optional<Output> made;
        std::thread asking([&] { made = cli(bus.address(), {"backup", file}); });
        for (int i = 0; i < 50; ++i) after = store(engine, state);
        asking.join();
        CAPTURE(made->err);
        REQUIRE(made->status == 0);
        REQUIRE_THAT(made->out, Contains(file));
        REQUIRE(cli(bus.address(), {"backup", file}).status == 4);
        REQUIRE(cli(bus.address(), {"backup", "-"}).status == 2);
        REQUIRE_THAT(cli(bus.address(), {"audit"}).out, Contains("store-copied"));
        for (const auto &entry : std::filesystem::directory_iterator(place.state_directory()))
            REQUIRE_FALSE(entry.path().filename().string().starts_with("copy-"));
        REQUIRE(manager.end(SIGTERM) == 0);
    }
    for (const char *const name : {"store.db", "store.db-wal", "store.id"})
        std::filesystem::remove(std::filesystem::path(place.state_directory()) / name);
    std::filesystem::copy_file(file, std::filesystem::path(place.state_directory()) / "store.db");
    ManagerProcess manager(place);
    manager.wait_for_status("refusing");  // it is an older one
    REQUIRE(cli(bus.address(), {"group", "accept-rollback", "default"}).status == 0);
    BackendEnd backend(place.socket());
    EngineEnd engine = backend.open(uuid);
    engine.load();
    const std::uint64_t sequence = engine.receive<LoadedState>().sequence;
    REQUIRE((before <= sequence && sequence <= after));
}

TEST_CASE_METHOD(Fixture, "a second manager on the same store ends with the reason") {
    ManagerProcess manager(place);
    const Output second = run(place.launch());
    REQUIRE(second.status == 1);
    REQUIRE_THAT(second.err, Contains("another xen-vtpm-managerd"));
}

TEST_CASE_METHOD(Fixture, "a damaged database and a wrong configuration end the manager for good, with the reason") {
    ManagerProcess(place).end(SIGTERM);
    std::ofstream(place.state_directory() + "/store.db", std::ios::trunc) << std::string(8192, 'x');
    const Output damaged = run(place.launch());
    REQUIRE(damaged.status == 78);
    REQUIRE_THAT(damaged.err, Contains("not a database"));
    place.more_config = "colour = 1";
    const Output misspelt = run(place.launch());
    REQUIRE(misspelt.status == 78);
    REQUIRE_THAT(misspelt.err, Contains("manager.toml:4: 'colour' is unknown"));
}

TEST_CASE_METHOD(Fixture, "a state directory that the unit does not let through is told with the remedy") {
    const auto end_of = [&](const std::string &state_directory) {
        const std::string config = directory / "elsewhere.toml";
        std::ofstream(config) << "state_directory = \"" << state_directory << "\"\n";
        return run({{VTPM_MANAGERD, "--config", config}, {}, {}});
    };
    const Output elsewhere = end_of("/nonexistent/vtpm");
    REQUIRE(elsewhere.status == EXIT_FAILURE);
    REQUIRE_THAT(elsewhere.err, Contains("/nonexistent/vtpm/store.id") && Contains("xen-vtpm-managerd --drop-in"));
    REQUIRE_THAT(end_of("/proc/vtpm").err, Contains("below /proc") && Contains("choose another"));
}

TEST_CASE_METHOD(Fixture, "a configuration is checked without a daemon") {
    const std::string config = directory / "checked.toml";
    const auto check = [&](const std::string &text) {
        std::ofstream(config) << text;
        return run({{VTPM_MANAGERD, "--config", config, "--check"}, {}, {}});
    };
    REQUIRE(check("auto_create = false\n").status == 0);
    const Output wrong = check("auto_create = false\nauto_crate = true\n");
    REQUIRE(wrong.status == 78);
    REQUIRE_THAT(wrong.err, Contains("checked.toml:2: 'auto_crate' is unknown: is 'auto_create' meant?"));
    REQUIRE(run({{VTPM_MANAGERD, "--config", std::string(directory / "nowhere.toml"), "--check"}, {}, {}}).status != 0);
}

TEST_CASE_METHOD(Fixture, "a store that this program cannot read is told beforehand, also while its own program runs") {
    const std::string config = directory / "checked.toml";
    std::ofstream(config) << "state_directory = \"" << place.state_directory() << "\"\n";
    const auto check = [&] { return run({{VTPM_MANAGERD, "--config", config, "--check"}, {}, {}}); };
    const std::string database = place.state_directory() + "/store.db";
    REQUIRE(check().status == 0);  // there is none yet
    {
        ManagerProcess manager(place);
        REQUIRE(check().status == 0);
        REQUIRE(read_file(database).at(63) == 14);  // and not in the log only
    }
    // As the next version might leave it.
    std::fstream(database, std::ios::in | std::ios::out | std::ios::binary).seekp(63).put(15);
    const Output newer = check();
    REQUIRE(newer.status != 0);
    REQUIRE_THAT(newer.err, Contains("its schema is version 15, this program knows 14"));
}

// systemd names what it does not understand, but its status is good.
TEST_CASE_METHOD(Fixture, "systemd takes the units, and each drop-in that is printed for them") {
    const std::string units = directory / "units";
    const std::string config = directory / "elsewhere.toml";
    std::ofstream(config) << "state_directory = '/srv/a \"b\" 100%'\nsocket = \"/run/vtpm-2/manager.sock\"\ntcti = "
                             "\"swtpm:port=2321\"\n";
    for (const std::string name : {"xen-vtpm-managerd.service", "xen-vtpmd.service"}) {
        std::filesystem::create_directories(units + "/" + name + ".d");
        // Neither program is installed where the units say.
        const std::string unit = std::regex_replace(read_file(std::string(VTPM_UNITS) + "/" + name),
                                                    std::regex("ExecStart=\\S+"), "ExecStart=/bin/true");
        std::ofstream(units + "/" + name) << unit;
        const Output printed = run({{VTPM_MANAGERD, "--config", config, "--drop-in", name}, {}, {}});
        REQUIRE(printed.status == 0);
        REQUIRE_THAT(printed.out, Contains("[Service]"));
        std::ofstream(units + "/" + name + ".d/config.conf")
            << std::regex_replace(printed.out, std::regex("ExecStart=/\\S+"), "ExecStart=/bin/true");
        const Output verdict = run({{"systemd-analyze", "verify", "--man=no", units + "/" + name}, {}, {}});
        REQUIRE(verdict.status == 0);
        REQUIRE(verdict.err.empty());
        const std::string wrong = units + "/" + name + ".d/wrong.conf";
        std::ofstream(wrong) << "[Service]\nNoSuchSetting=1\n";
        REQUIRE_FALSE(run({{"systemd-analyze", "verify", "--man=no", units + "/" + name}, {}, {}}).err.empty());
        std::filesystem::remove(wrong);
    }
    REQUIRE(run({{VTPM_MANAGERD, "--config", config, "--drop-in", "other.service"}, {}, {}}).status == 78);
}

TEST_CASE_METHOD(Fixture, "a bus that comes later is used later") {
    const std::string socket = directory / "bus";
    place.bus_address = "unix:path=" + socket;
    const ManagerProcess manager(place);
    BackendEnd(place.socket()).open(uuid);
    const PrivateBus bus(socket);
    for (int i = 0; i < 100 && cli(bus.address(), {"list"}).status == 6; ++i) ::usleep(100'000);
    REQUIRE(cli(bus.address(), {"list"}).status == 0);
}

TEST_CASE_METHOD(Fixture, "file sealing works, and is loud") {
    place.more_config = "sealing = \"file\"";
    {
        const ManagerProcess manager(place);
        EngineEnd engine = BackendEnd(place.socket()).open(uuid);
        store(engine, state);
    }
    const Output ends = run([&] {
        Launch launch = place.launch();
        launch.command.insert(launch.command.begin(), {"timeout", "1"});
        return launch;
    }());
    REQUIRE_THAT(ends.err, Contains("NO TPM PROTECTS THEM"));
    place.more_config = "sealing = \"tpm\"";
    ManagerProcess manager(place);
    REQUIRE_THAT(manager.wait_for_status("refusing"), Contains("sealed by 'file'"));
}

TEST_CASE_METHOD(Fixture, "the backend's connections are bounded, and a malformed request ends its own only") {
    const ManagerProcess manager(place);
    std::vector<BackendEnd> connections;
    for (int i = 0; i < 8; ++i) {
        connections.emplace_back(place.socket());
        REQUIRE(connections.back().ask<PrepareVtpm>(uuid).code == ErrorCode::kNone);
    }
    REQUIRE(BackendEnd(place.socket()).closed());
    connections.back().send(Bytes(600, 0xff));
    REQUIRE(connections.back().closed());
    REQUIRE(connections.front().ask<PrepareVtpm>(uuid).code == ErrorCode::kNone);
}

TEST_CASE_METHOD(Fixture, "a backend of another version waits, an engine of another version is told") {
    const ManagerProcess manager(place);
    BackendEnd backend(place.socket());
    REQUIRE(backend.ask<PrepareVtpm>(uuid).code == ErrorCode::kNone);
    const auto refused = backend.exchange(OpenVtpm{.state_protocol = 1, .uuid = uuid});
    REQUIRE(refused.code == ErrorCode::kRefused);
    REQUIRE(refused.text.find("power cycle the guest") != std::string::npos);
    REQUIRE(backend.ask<OpenVtpm>(uuid).code == ErrorCode::kNone);
    // The layout of protocol 2, the last that had a number.
    Bytes former{1, 0, 2, 0};
    former.insert(former.end(), uuid.bytes.begin(), uuid.bytes.end());
    former.push_back(1);
    const auto answer = backend.exchange_raw(former);
    REQUIRE(answer.code == ErrorCode::kUnavailable);
    REQUIRE(answer.text.find("different versions") != std::string::npos);
}

TEST_CASE_METHOD(Fixture, "a user who is neither root nor the manager's is turned away") {
    if (::geteuid() != 0) return;
    const ManagerProcess manager(place);
    ::chmod(directory.path().c_str(), 0755);
    ::chmod(place.socket().c_str(), 0777);  // the mode would turn him away already
    const pid_t child = ::fork();
    if (child == 0) {
        Bytes buffer(kMaxSmallMessage);
        if (::setuid(65534) != 0) ::_exit(1);
        const auto socket = connect_seqpacket(place.socket());
        if (!socket) ::_exit(2);
        (void)send_message(socket->get(), encode(PrepareVtpm{.uuid = uuid}, buffer));
        const auto received = receive_message(socket->get(), buffer);
        ::_exit(!received || received->size == 0 ? 0 : 3);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    REQUIRE(WIFEXITED(status));
    REQUIRE(WEXITSTATUS(status) == 0);
}

}  // namespace vtpm::daemon_test
