// SPDX-License-Identifier: Apache-2.0
// Engines outlive the daemon: what the next one makes of what it finds.
#include <fmt/format.h>

#include <csignal>
#include <fstream>
#include "tests/catch.hpp"

#include "tests/integration/backend/test_host.hpp"
#include "tests/integration/process_status.hpp"

namespace vtpm {
namespace {

bool alive(pid_t process) { return !process_status(process).empty(); }

// A guest whose PCR 10 has been extended, and what it is then.
struct Measured {
    explicit Measured(TestHost &host, DeviceId id = kDevice, const Uuid &uuid = kUuid) {
        host.bring_up(id, uuid, guest);
        CHECK(rc(host.execute(guest, commands::pcr_extend(10, 0xab))) == 0);
        pcr = read(host);
        REQUIRE(pcr != kZeroPcr);
    }
    Bytes read(TestHost &host) { return commands::pcr_value(host.execute(guest, commands::pcr_read(10))); }

    LoopbackGuest guest;
    Bytes pcr;
};

bool is_connected(TestHost &host, DeviceId id) {
    return host.run_until([&] { return host.status(id) == "connected"; });
}

}  // namespace

TEST_CASE("a TPM outlives its daemon, and serves its guest meanwhile") {
    TestHost host;
    Measured measured(host);
    const pid_t engine = host.engine_pid(kDevice);
    host.daemon_dies();
    CHECK(measured.read(host) == measured.pcr);
    REQUIRE(host.start());
    REQUIRE(is_connected(host, kDevice));
    CHECK(host.engine_pid(kDevice) == engine);
    CHECK(host.rings.opened == 1);
    CHECK(host.own_state(kDevice) == "4");
    CHECK(measured.read(host) == measured.pcr);
    CHECK(rc(host.execute(measured.guest, commands::nv_define(kIndex, 8))) == 0);

    for (int i = 0; i < 20; ++i) host.restart_daemon();
    REQUIRE(is_connected(host, kDevice));
    CHECK(host.service.store.size() == 2);  // the zygote that has the engine, and the newest
    CHECK(measured.read(host) == measured.pcr);

    host.detach(kDevice);
    REQUIRE(host.reaches(kDevice, "6"));
    CHECK_FALSE(alive(engine));
    CHECK(host.service.store.size() == 1);
    CHECK(host.manager.power_ons == 1);
}

TEST_CASE("a daemon that dies at any time in an attach leaves what the next one completes") {
    for (int steps = 0; steps < 60; ++steps) {
        TestHost host;
        LoopbackGuest guest;
        host.rings.guests[kDevice.domain] = &guest;
        host.attach(kDevice, kUuid);
        bool initialised = false;
        const auto act = [&] {
            if (!std::exchange(initialised, initialised || host.own_state(kDevice) == "2") && initialised)
                host.frontend_initialised(kDevice);
        };
        for (int i = 0; i < steps; ++i) {
            (void)sd_event_run(host.loop.raw(), 1'000);
            act();
        }
        host.restart_daemon();
        REQUIRE(host.run_until([&] {
            act();
            return host.own_state(kDevice) == "4";
        }));
        host.frontend_state(kDevice, 4);
        CHECK(rc(host.execute(guest, commands::get_random())) == 0);
        CHECK(host.manager.power_ons == 1);
    }
}

TEST_CASE("a TPM that is taken over while it starts, and loses its manager, is started again") {
    TestHost host;
    LoopbackGuest guest;
    host.offer(kDevice, kUuid, guest);
    host.manager.silent_at_load = true;
    host.frontend_initialised(kDevice);
    REQUIRE(host.run_until([&] { return host.manager.loads == 1; }));
    host.restart_daemon();
    REQUIRE(host.run_until([&] { return host.status(kDevice) == "being taken over"; }));
    host.manager.stop();
    host.manager.silent_at_load = false;
    host.manager.start();
    REQUIRE(host.reaches(kDevice, "4"));
    CHECK(rc(host.execute(guest, commands::get_random())) == 0);
    CHECK(host.manager.power_ons == 1);
}

TEST_CASE("a frontend that started over while there was no daemon gets its new ring") {
    // Its numbers may be the old ones: then only its state tells.
    const std::uint32_t ring_ref = GENERATE(8U, 21U);
    TestHost host;
    Measured measured(host);
    host.daemon_dies();
    host.frontend_state(kDevice, 5);
    host.frontend_state(kDevice, 6);
    host.frontend_initialised(kDevice, ring_ref);
    REQUIRE(host.start());
    REQUIRE(host.run_until([&] { return host.rings.opened == 2 && host.status(kDevice) == "connected"; }));
    host.frontend_state(kDevice, 4);
    CHECK(measured.read(host) == measured.pcr);
}

TEST_CASE("a frontend that closes around a daemon's end keeps its TPM") {
    const bool answered = GENERATE(false, true);
    TestHost host;
    Measured measured(host);
    host.frontend_state(kDevice, 5);
    if (answered) REQUIRE(host.reaches(kDevice, "5"));
    host.restart_daemon();
    REQUIRE(host.reaches(kDevice, "5"));
    host.frontend_state(kDevice, 6);
    REQUIRE(host.reaches(kDevice, "6"));
    host.frontend_initialised(kDevice, 21);
    REQUIRE(host.reaches(kDevice, "4"));
    CHECK(measured.read(host) == measured.pcr);
}

TEST_CASE("a guest that went while there was no daemon leaves no engine") {
    TestHost host;
    Measured measured(host);
    const pid_t engine = host.engine_pid(kDevice);
    host.daemon_dies();
    SECTION("with its directories") { host.remove(kDevice); }
    SECTION("its device waits for state 6") { host.detach(kDevice); }
    REQUIRE(host.start());
    CHECK(host.run_until([&] { return !alive(engine); }));
    CHECK(host.run_until([&] { return !host.manager.in_use(kUuid); }));
    CHECK(host.own_state(kDevice) != "4");
}

TEST_CASE("another vTPM in the place of one that went while there was no daemon is not given its engine") {
    TestHost host;
    Measured measured(host);
    const pid_t engine = host.engine_pid(kDevice);
    host.daemon_dies();
    host.remove(kDevice);
    LoopbackGuest other;
    host.rings.guests[kDevice.domain] = &other;
    host.attach(kDevice, Uuid::random());
    REQUIRE(host.start());
    REQUIRE(host.reaches(kDevice, "2"));
    host.frontend_initialised(kDevice);
    REQUIRE(host.reaches(kDevice, "4"));
    CHECK_FALSE(alive(engine));
    CHECK(commands::pcr_value(host.execute(other, commands::pcr_read(10))) == kZeroPcr);
}

TEST_CASE("an engine that died while there was no daemon fails its device, until the power cycle") {
    TestHost host;
    Measured measured(host);
    const pid_t engine = host.engine_pid(kDevice);
    host.daemon_dies();
    REQUIRE(::kill(engine, SIGKILL) == 0);
    REQUIRE(host.run_until([&] { return !alive(engine); }));
    REQUIRE(host.start());
    REQUIRE(host.reaches(kDevice, "5"));
    CHECK(host.reason(kDevice).find("power cycled") != std::string::npos);
    CHECK(host.status(kDevice) == "failed");
}

TEST_CASE("the end of an engine that was taken over is told as any other's") {
    TestHost host;
    Measured measured(host);
    host.restart_daemon();
    REQUIRE(is_connected(host, kDevice));
    REQUIRE(::kill(host.engine_pid(kDevice), SIGKILL) == 0);
    CHECK(host.reaches(kDevice, "5"));
    CHECK(host.reason(kDevice).find("signal 9") != std::string::npos);
}

TEST_CASE("no two engines have the same user, whoever has started them") {
    TestHost host;
    Measured one(host);
    host.restart_daemon();
    Measured two(host, kOther, Uuid::random());
    CHECK(process_status(host.engine_pid(kDevice)).at("Uid") != process_status(host.engine_pid(kOther)).at("Uid"));
}

TEST_CASE("while systemd is busy with a new parent of engines, guests are served, and who comes waits for it") {
    const bool gives_scope = GENERATE(true, false);
    TestHost host;
    Measured measured(host);
    LoopbackGuest crashes;
    host.bring_up(kOther, Uuid::random(), crashes);
    host.service.is_busy = true;
    REQUIRE(::kill(host.engine_pid(kOther), SIGSEGV) == 0);
    REQUIRE(host.reaches(kOther, "5"));
    REQUIRE(host.run_until([&] { return static_cast<bool>(host.service.waiting); }));

    host.frontend_state(kDevice, 6);
    REQUIRE(host.reaches(kDevice, "6"));
    host.frontend_initialised(kDevice, 21);
    REQUIRE(host.reaches(kDevice, "4"));
    host.frontend_state(kDevice, 4);
    CHECK(measured.read(host) == measured.pcr);
    constexpr DeviceId kComing{9, 0};
    LoopbackGuest coming;
    host.offer(kComing, Uuid::random(), coming);
    host.frontend_initialised(kComing);
    host.run_for(std::chrono::milliseconds(600));
    CHECK(host.own_state(kComing) == "2");
    CHECK(host.reason(kComing).find("parent process") != std::string::npos);

    const auto answer = host.service.waiting(gives_scope ? Result<>() : fail(ErrorCode::kUnavailable, "busy"));
    REQUIRE(host.reaches(kComing, "4"));
    host.frontend_state(kComing, 4);
    CHECK(rc(host.execute(coming, commands::get_random())) == 0);
    CHECK(host.engines->zygotes().size() == (gives_scope ? 2 : 1));
    CHECK(host.service.store.size() == host.engines->zygotes().size());
}

TEST_CASE("an engine is known by its name") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    std::ifstream file(fmt::format("/proc/{}/comm", host.engine_pid(kDevice)));
    std::string name;
    file >> name;
    CHECK(name == "xen-vtpm-engine");
}

TEST_CASE("an engine has nothing of another: three descriptors of its own") {
    TestHost host;
    LoopbackGuest one;
    LoopbackGuest two;
    host.bring_up(kDevice, kUuid, one);
    host.bring_up(kOther, Uuid::random(), two);
    for (const DeviceId device : {kDevice, kOther}) {
        const auto descriptors =
            std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", host.engine_pid(device)));
        std::size_t sockets = 0;
        for (const auto &entry : descriptors)
            if (std::filesystem::read_symlink(entry).string().starts_with("socket:") &&
                std::stoi(entry.path().filename()) > STDERR_FILENO)
                ++sockets;
        CHECK(sockets == 2);  // the daemon and the manager
    }
}

TEST_CASE("a manager that was restarted while there was no daemon gets its engines back") {
    TestHost host;
    Measured measured(host);
    const bool is_back_late = GENERATE(false, true);  // after the next daemon
    host.daemon_dies();
    host.manager.stop();
    if (!is_back_late) host.manager.start();
    REQUIRE(host.start());
    REQUIRE(is_connected(host, kDevice));
    if (is_back_late) {
        REQUIRE(host.run_until([&] { return !host.reason(kDevice).empty(); }));
        host.manager.start();
    }
    REQUIRE(host.run_until([&] { return host.manager.in_use(kUuid); }));
    host.run_for(std::chrono::milliseconds(50));
    CHECK(rc(host.execute(measured.guest, commands::nv_define(kIndex, 8))) == 0);
    CHECK(measured.read(host) == measured.pcr);
    CHECK(host.reason(kDevice).empty());
}

TEST_CASE("a daemon that is stopped for good powers the TPMs off, and the guest's failed device stays so") {
    TestHost host;
    Measured measured(host);
    const pid_t engine = host.engine_pid(kDevice);
    const auto stored = host.manager.store[kUuid].sequence;
    bool stopped = false;
    SECTION("and waits for them") {
        host.backend.reset();
        host.engines->stop_all([&] { stopped = true; });
        CHECK(host.run_until([&] { return stopped; }));
        CHECK_FALSE(alive(engine));
    }
    SECTION("the service manager lets go of them") {
        host.daemon_dies();
        host.service.store.clear();
    }
    CHECK(host.run_until([&] { return !alive(engine); }));
    CHECK(host.manager.store[kUuid].sequence > stored);  // TPM2_Shutdown
    host.engines.reset();
    host.service.store.clear();
    REQUIRE(host.start());
    CHECK(host.reaches(kDevice, "5"));
    CHECK(host.status(kDevice) == "failed");
}

TEST_CASE("a command that waits for the manager waits on when the daemon is restarted, too") {
    TestHost host;
    Measured measured(host);
    REQUIRE(rc(host.execute(measured.guest, commands::nv_define(kIndex, 8))) == 0);
    host.manager.stop();
    measured.guest.submit(commands::nv_write(kIndex, Bytes(8, 1)));
    host.run_for(std::chrono::milliseconds(100));
    host.restart_daemon();
    host.run_for(std::chrono::milliseconds(300));
    CHECK(measured.guest.state() == TPMIF_STATE_SUBMIT);
    host.manager.start();
    REQUIRE(host.run_until([&] { return measured.guest.state() != TPMIF_STATE_SUBMIT; }));
    CHECK(rc(measured.guest.response(std::chrono::milliseconds(0))) == 0);
}

// A channel that was on its way to the former daemon.
TEST_CASE(
    "an engine whose manager has gone unnoticed gets the next one's channel, though the vTPM is in use for a moment") {
    TestHost host;
    Measured measured(host);
    host.daemon_dies();
    host.manager.stop();
    host.manager.start();
    ManagerClient former(host.loop, host.socket_path, [] {});
    UniqueFd on_its_way;
    former.open(kUuid, protocol_version(Channel::kState), {}, {},
                [&](Result<ManagedVtpm> answer) { on_its_way = std::move(answer->state_channel); });
    REQUIRE(host.run_until([&] { return static_cast<bool>(on_its_way); }));
    REQUIRE(host.start());
    REQUIRE(is_connected(host, kDevice));
    host.run_for(std::chrono::milliseconds(300));
    measured.guest.submit(commands::nv_define(kIndex, 8));
    host.run_for(std::chrono::milliseconds(100));
    CHECK(measured.guest.state() == TPMIF_STATE_SUBMIT);  // it waits
    on_its_way.reset();
    REQUIRE(host.run_until([&] { return measured.guest.state() != TPMIF_STATE_SUBMIT; }));
    CHECK(rc(measured.guest.response(std::chrono::milliseconds(0))) == 0);
    CHECK(host.run_until([&] { return host.reason(kDevice).empty(); }));
}

// A zygote says that to a daemon which was ended before it read the first answer, and then to the next one.
TEST_CASE("what an engine counts is read by the next daemon too, and ends with the engine") {
    TestHost host;
    Measured measured(host);  // two commands
    const auto meter = [&] { return host.backend->devices().at(kDevice)->meter(); };
    REQUIRE(meter());
    const std::uint64_t before = meter()->commands;
    CHECK(before >= 2);
    CHECK(rc(host.execute(measured.guest, commands::nv_define(kIndex, 8))) == 0);
    CHECK(rc(host.execute(measured.guest, commands::nv_define(kIndex, 8))) == 0x14c);  // TPM_RC_NV_DEFINED
    CHECK(meter()->commands == before + 2);
    CHECK(meter()->errors == std::map<std::uint32_t, std::uint64_t>{{0x14c, 1}});
    const std::uint64_t stores = meter()->stores;
    CHECK(stores >= 1);
    host.restart_daemon();
    REQUIRE(is_connected(host, kDevice));
    CHECK(measured.read(host) == measured.pcr);
    REQUIRE(meter());
    CHECK(meter()->commands == before + 3);
    CHECK(meter()->stores == stores);
    LoopbackGuest other;
    host.bring_up(kOther, Uuid::random(), other);
    CHECK(rc(host.execute(other, commands::get_random())) == 0);
    CHECK(host.backend->devices().at(kOther)->meter()->commands == 1);
    CHECK(meter()->commands == before + 3);

    host.detach(kDevice);
    REQUIRE(host.reaches(kDevice, "6"));
    host.remove(kDevice);
    LoopbackGuest next;
    host.bring_up(kDevice, kUuid, next);
    CHECK(meter()->commands == 0);
}

TEST_CASE("a crash that is told while a zygote is taken over waits for its turn") {
    TestHost host;
    host.daemon_dies();
    host.service.store.clear();
    auto ends = make_seqpacket_pair();
    auto control = make_seqpacket_pair();
    REQUIRE((ends && control));
    const KeptName name{protocol_version(Channel::kEngines), protocol_version(Channel::kState), 1};
    host.service.keep(to_string(name), ends->ours.get());
    const int zygote = ends->theirs.get();
    REQUIRE(send(zygote, LivingEngine{1, 1'900'000'000, 4711, kUuid, 7, 0}, {control->ours.get()}));
    REQUIRE(send(zygote, EnginesListed{1, "of before"}));
    REQUIRE(send(zygote, EngineExited{1, SIGSEGV}));
    REQUIRE(send(zygote, EnginesListed{static_cast<std::uint32_t>(::getpid()), "of before"}));
    REQUIRE(host.start());
    CHECK(host.engines->zygotes().size() == 1);
}

TEST_CASE("engines that speak another protocol are powered off, not guessed at") {
    TestHost host;
    Measured measured(host);
    const pid_t engine = host.engine_pid(kDevice);
    const auto stored = host.manager.store[kUuid].sequence;
    host.daemon_dies();
    auto zygote = host.service.store.extract(host.service.store.begin());
    const auto name = parse_kept_name(zygote.key());
    REQUIRE(name);
    zygote.key() =
        GENERATE_COPY(std::string("engines-2-1"), to_string(KeptName{1, name->state_protocol, name->zygote}));
    host.service.store.insert(std::move(zygote));
    REQUIRE(host.start());
    CHECK(host.run_until([&] { return !alive(engine); }));
    CHECK(host.manager.store[kUuid].sequence > stored);
    CHECK(host.reaches(kDevice, "5"));
    CHECK(host.status(kDevice) == "failed");
    CHECK(host.service.store.size() == 1);
}

}  // namespace vtpm
