// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <csignal>
#include "tests/catch.hpp"

#include "backend/engine/tpm_messages.hpp"
#include "tests/fakes/tpm_commands.hpp"
#include "tests/integration/backend/test_host.hpp"
#include "tests/integration/process_status.hpp"

namespace vtpm {

TEST_CASE("a device is offered, connected, and its guest gets random bytes") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    const Bytes response = host.execute(guest, commands::get_random());
    CHECK(rc(response) == 0);
    CHECK(response.size() == 10 + 2 + 16);
    CHECK(host.xenstore.read(backend_path(0, kDevice) + "/feature-protocol-v2") == "1");
}

TEST_CASE("the manager is told what a guest is called, also while it comes from another host") {
    TestHost host;
    LoopbackGuest guest;
    const std::string name = fmt::format("/local/domain/{}/name", kDevice.domain);
    const auto [written, told] =
        GENERATE(table<std::string, std::string>({{"web", "web"},
                                                  {"web--incoming", "web"},
                                                  {"--incoming", ""},
                                                  {std::string(4000, 'w'), std::string(128, 'w')}}));
    host.xenstore.write(name, written);
    host.bring_up(kDevice, kUuid, guest);
    CHECK(host.manager.guests == std::vector{told});
}

TEST_CASE("a command that was submitted before the backend connects is answered") {
    TestHost host;
    LoopbackGuest guest;
    host.offer(kDevice, kUuid, guest);
    guest.submit(commands::get_random());
    host.frontend_initialised(kDevice);
    CHECK(host.run_until([&] { return guest.state() == TPMIF_STATE_FINISH; }));
}

TEST_CASE("a hot attach shows state 2 long enough for libxl to see it") {
    TestHost host(std::chrono::milliseconds(1500));
    LoopbackGuest guest;
    host.offer(kDevice, kUuid, guest);
    const auto offered = std::chrono::steady_clock::now();
    host.frontend_initialised(kDevice);
    REQUIRE(host.reaches(kDevice, "4"));
    CHECK(std::chrono::steady_clock::now() - offered > std::chrono::seconds(1));
}

TEST_CASE("PCRs survive the frontend's close and re-open, and are zero after a new attach") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    CHECK(commands::pcr_value(host.execute(guest, commands::pcr_read(10))) == kZeroPcr);
    CHECK(rc(host.execute(guest, commands::pcr_extend(10, 0xab))) == 0);
    const Bytes extended = commands::pcr_value(host.execute(guest, commands::pcr_read(10)));
    CHECK(extended != kZeroPcr);

    host.frontend_state(kDevice, 5);
    REQUIRE(host.reaches(kDevice, "5"));
    host.frontend_state(kDevice, 6);
    REQUIRE(host.reaches(kDevice, "6"));
    host.frontend_initialised(kDevice, 21);  // insmod again: 6 -> 3 without a 1 between
    REQUIRE(host.reaches(kDevice, "4"));
    host.frontend_state(kDevice, 4);
    CHECK(commands::pcr_value(host.execute(guest, commands::pcr_read(10))) == extended);

    host.detach(kDevice);
    REQUIRE(host.reaches(kDevice, "6"));
    host.remove(kDevice);
    host.run_for(std::chrono::milliseconds(50));
    CHECK(host.backend->devices().empty());
    host.bring_up(kOther, kUuid, guest);
    CHECK(commands::pcr_value(host.execute(guest, commands::pcr_read(10))) == kZeroPcr);
}

TEST_CASE("a device that is removed and attached again before the daemon looks is a new one") {
    TestHost host;
    LoopbackGuest guest;
    Uuid uuid = kUuid;
    host.bring_up(kDevice, uuid, guest);
    CHECK(rc(host.execute(guest, commands::nv_define(kIndex, 8))) == 0);
    SECTION("its engine has ended") {
        host.detach(kDevice);
        REQUIRE(host.reaches(kDevice, "6"));
        host.remove(kDevice);
    }
    SECTION("its engine still runs") { host.remove(kDevice); }
    SECTION("its engine ends after the removal was seen") {
        host.remove(kDevice);
        REQUIRE(host.run_until([&] { return host.engines->count() == 0; }));
    }
    SECTION("for another vTPM") {
        host.remove(kDevice);
        uuid = Uuid::random();
    }
    SECTION("it has failed") {
        REQUIRE(::kill(host.engine_pid(kDevice), SIGKILL) == 0);
        REQUIRE(host.reaches(kDevice, "5"));
        host.remove(kDevice);
    }
    host.bring_up(kDevice, uuid, guest);
    CHECK((rc(host.execute(guest, commands::nv_read(kIndex, 8))) == 0x18b) == (uuid != kUuid));  // TPM_RC_HANDLE
    CHECK(host.engines->count() == 1);
}

TEST_CASE("kexec: 5, 6 and 1 are answered by 5, 6 and 2") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    for (const auto &[frontend, own] : {std::pair{5, "5"}, {6, "6"}, {1, "2"}}) {
        host.frontend_state(kDevice, frontend);
        CHECK(host.reaches(kDevice, own));
    }
    host.frontend_initialised(kDevice);
    CHECK(host.reaches(kDevice, "4"));
}

TEST_CASE("a frontend that closes while it is offered a device is answered, and may come back") {
    TestHost host;
    LoopbackGuest guest;
    host.offer(kDevice, kUuid, guest);
    host.frontend_state(kDevice, 6);
    CHECK(host.reaches(kDevice, "6"));
    host.frontend_initialised(kDevice);
    CHECK(host.reaches(kDevice, "4"));
}

TEST_CASE("NV survives a detach, and the change is stored before it is answered") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    CHECK(rc(host.execute(guest, commands::nv_define(kIndex, 8))) == 0);
    const Bytes data{1, 2, 3, 4, 5, 6, 7, 8};
    const auto before = host.manager.store[kUuid].sequence;
    CHECK(rc(host.execute(guest, commands::nv_write(kIndex, data))) == 0);
    CHECK(host.manager.store[kUuid].sequence > before);
    host.detach(kDevice);
    REQUIRE(host.reaches(kDevice, "6"));
    host.remove(kDevice);
    host.bring_up(kOther, kUuid, guest);
    CHECK(commands::nv_data(host.execute(guest, commands::nv_read(kIndex, 8))) == data);
}

TEST_CASE("a TPM whose guest leaves while its engine has something to say is powered off in order") {
    TestHost host;
    LoopbackGuest guest;
    const auto stores_of = [&](const std::function<void()> &life) {
        const int before = host.manager.stores;
        life();
        host.detach(kDevice);
        REQUIRE(host.reaches(kDevice, "6"));
        host.remove(kDevice);
        host.run_for(std::chrono::milliseconds(50));
        return host.manager.stores - before;
    };
    const auto whole_life = [&] { host.bring_up(kDevice, kUuid, guest); };
    (void)stores_of(whole_life);  // the first one makes the TPM
    const int expected = stores_of(whole_life);
    SECTION("that it is ready") {
        CHECK(stores_of([&] {
                  host.attach(kDevice, kUuid);
                  REQUIRE(host.reaches(kDevice, "2"));
                  host.frontend_initialised(kDevice);
                  // It cannot be ready: it needs the manager, which is of this thread.
                  REQUIRE(host.run_until([&] { return host.engines->count() == 1; }));
              }) == expected);
    }
    SECTION("that the ring is detached") {
        CHECK(stores_of([&] {
                  host.bring_up(kDevice, kUuid, guest);
                  const pid_t engine = host.engine_pid(kDevice);
                  REQUIRE(::kill(engine, SIGSTOP) == 0);
                  host.frontend_state(kDevice, 5);
                  host.run_for(std::chrono::milliseconds(20));
                  host.detach(kDevice);
                  host.run_for(std::chrono::milliseconds(20));
                  REQUIRE(::kill(engine, SIGCONT) == 0);
              }) == expected);
    }
}

TEST_CASE("no engine is started for a device that was told to leave while the manager was asked for its vTPM") {
    TestHost host;
    host.attach(kDevice, kUuid);
    REQUIRE(host.reaches(kDevice, "2"));
    host.frontend_initialised(kDevice);
    REQUIRE(host.run_until([&] { return host.status(kDevice) == "starting"; }));
    REQUIRE(host.engines->count() == 0);
    host.detach(kDevice);
    REQUIRE(host.reaches(kDevice, "6"));
    host.run_for(std::chrono::milliseconds(50));
    CHECK_FALSE(host.xenstore.read(backend_path(0, kDevice) + "/powered-on"));
    CHECK(host.manager.power_ons == 0);
    CHECK_FALSE(host.manager.in_use(kUuid));
}

TEST_CASE("a command that changes nothing permanent never reaches the manager") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    const int before = host.manager.stores;
    for (int i = 0; i < 50; ++i) {
        CHECK(rc(host.execute(guest, commands::get_random())) == 0);
        CHECK(rc(host.execute(guest, commands::pcr_extend(5, 1))) == 0);
        CHECK(rc(host.execute(guest, commands::pcr_read(5))) == 0);
    }
    CHECK(host.manager.stores == before);
}

TEST_CASE("a store that fails undoes the change, keeps PCRs, and works again afterwards") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    CHECK(rc(host.execute(guest, commands::nv_define(kIndex, 4))) == 0);
    CHECK(rc(host.execute(guest, commands::nv_write(kIndex, Bytes{1, 1, 1, 1}))) == 0);
    CHECK(rc(host.execute(guest, commands::pcr_extend(3, 7))) == 0);
    const Bytes pcr = commands::pcr_value(host.execute(guest, commands::pcr_read(3)));

    host.manager.answer_store = ErrorCode::kStoreFailed;
    CHECK(rc(host.execute(guest, commands::nv_write(kIndex, Bytes{2, 2, 2, 2}))) == 0x923);  // TPM_RC_NV_UNAVAILABLE
    CHECK(commands::nv_data(host.execute(guest, commands::nv_read(kIndex, 4))) == Bytes{1, 1, 1, 1});
    CHECK(commands::pcr_value(host.execute(guest, commands::pcr_read(3))) == pcr);

    host.manager.answer_store = ErrorCode::kNone;
    CHECK(rc(host.execute(guest, commands::nv_write(kIndex, Bytes{3, 3, 3, 3}))) == 0);
    CHECK(commands::nv_data(host.execute(guest, commands::nv_read(kIndex, 4))) == Bytes{3, 3, 3, 3});
}

TEST_CASE("without the manager reads work, writes fail, and its return is picked up") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    CHECK(rc(host.execute(guest, commands::nv_define(kIndex, 1))) == 0);
    CHECK(rc(host.execute(guest, commands::nv_write(kIndex, Bytes{1}))) == 0);
    host.manager.stop();
    CHECK(rc(host.execute(guest, commands::get_random())) == 0);
    CHECK(rc(host.execute(guest, commands::nv_write(kIndex, Bytes{2}))) == 0x923);
    CHECK(commands::nv_data(host.execute(guest, commands::nv_read(kIndex, 1))) == Bytes{1});
    host.manager.start();
    CHECK(host.run_until([&] { return host.manager.in_use(kUuid); }));
    host.run_for(std::chrono::milliseconds(200));
    CHECK(rc(host.execute(guest, commands::nv_write(kIndex, Bytes{3}))) == 0);
    CHECK(commands::nv_data(host.execute(guest, commands::nv_read(kIndex, 1))) == Bytes{3});
}

TEST_CASE("a guest whose group was refused after a manager's restart stores again when the group is opened") {
    TestHost host;
    host.refused_retry = std::chrono::milliseconds(300);
    host.restart_daemon();
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    REQUIRE(rc(host.execute(guest, commands::nv_define(kIndex, 8))) == 0);
    const ErrorCode why = GENERATE(ErrorCode::kRefused, ErrorCode::kUnavailable);
    host.manager.stop();
    host.manager.answer_load = why;
    host.manager.start();
    CHECK(host.run_until([&] { return host.reason(kDevice).starts_with("cannot store"); }));
    host.run_for(std::chrono::milliseconds(700));
    const int loads = host.manager.loads;
    CHECK(loads < 6);
    host.manager.answer_load = ErrorCode::kNone;
    CHECK(host.run_until([&] { return host.reason(kDevice).empty(); }));
    CHECK(rc(host.execute(guest, commands::nv_write(kIndex, Bytes(8, 1)))) == 0);
}

TEST_CASE(
    "an idle guest whose new channel is refused is told of, and its next write does not wait for a pause to end") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    REQUIRE(rc(host.execute(guest, commands::nv_define(kIndex, 8))) == 0);
    host.manager.stop();
    host.manager.answer_open = GENERATE(ErrorCode::kRefused, ErrorCode::kUnavailable);
    host.manager.start();
    CHECK(host.run_until([&] { return host.reason(kDevice).starts_with("cannot store"); }));
    host.run_for(std::chrono::milliseconds(500));
    host.manager.answer_open = ErrorCode::kNone;
    CHECK(rc(host.execute(guest, commands::nv_write(kIndex, Bytes(8, 1)))) == 0);
    CHECK(host.run_until([&] { return host.reason(kDevice).empty(); }, std::chrono::seconds(2)));
}

TEST_CASE("a command whose manager is restarted under it waits for the next one") {
    const bool was_stored = GENERATE(false, true);
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    CHECK(rc(host.execute(guest, commands::nv_define(kIndex, 1))) == 0);
    CHECK(rc(host.execute(guest, commands::nv_write(kIndex, Bytes{1}))) == 0);
    const int stores = host.manager.stores;
    host.manager.vanish_after_store = was_stored;
    if (!was_stored) host.manager.stop();
    guest.submit(commands::nv_write(kIndex, Bytes{2}));
    host.run_for(std::chrono::milliseconds(600));
    CHECK(guest.state() == TPMIF_STATE_SUBMIT);
    host.manager.start();
    REQUIRE(host.run_until([&] { return guest.state() == TPMIF_STATE_FINISH; }, std::chrono::seconds(5)));
    CHECK(rc(guest.response()) == 0);
    CHECK(host.manager.stores == stores + 1);  // not twice
    CHECK(commands::nv_data(host.execute(guest, commands::nv_read(kIndex, 1))) == Bytes{2});
    CHECK(rc(host.execute(guest, commands::nv_write(kIndex, Bytes{3}))) == 0);
    CHECK(host.run_until([&] { return host.reason(kDevice).empty(); }));
}

TEST_CASE("the next manager's channel may come together with a command that needs it") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    CHECK(rc(host.execute(guest, commands::nv_define(kIndex, 1))) == 0);
    const pid_t engine = host.engine_pid(kDevice);
    REQUIRE(::kill(engine, SIGSTOP) == 0);
    host.manager.stop();
    host.manager.start();
    REQUIRE(host.run_until([&] { return host.manager.in_use(kUuid); }));
    host.run_for(std::chrono::milliseconds(20));
    guest.submit(commands::nv_write(kIndex, Bytes{2}));
    REQUIRE(::kill(engine, SIGCONT) == 0);
    REQUIRE(host.run_until([&] { return guest.state() == TPMIF_STATE_FINISH; }));
    CHECK(rc(guest.response()) == 0);
    guest.submit(commands::get_random());
    CHECK(host.run_until([&] { return guest.state() == TPMIF_STATE_FINISH; }, std::chrono::seconds(5)));
}

TEST_CASE("a command that waits for the manager since its ring was attached does not keep its guest from leaving") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    CHECK(rc(host.execute(guest, commands::nv_define(kIndex, 1))) == 0);
    host.frontend_state(kDevice, 6);
    REQUIRE(host.reaches(kDevice, "6"));
    host.manager.stop();
    host.run_for(std::chrono::milliseconds(20));
    // Before the ring is attached, so that nobody is rung.
    const Bytes command = commands::nv_write(kIndex, Bytes{2});
    std::ranges::copy(command, guest.page().begin() + TPMIF_DATA_OFFSET(std::ptrdiff_t{0}));
    guest.write_header(static_cast<std::uint32_t>(command.size()), TPMIF_STATE_SUBMIT);
    host.frontend_initialised(kDevice);
    REQUIRE(host.reaches(kDevice, "4"));
    host.run_for(std::chrono::milliseconds(50));
    CHECK(guest.state() == TPMIF_STATE_SUBMIT);
    host.frontend_state(kDevice, 5);
    CHECK(host.run_until([&] { return host.own_state(kDevice) == "5"; }, std::chrono::seconds(3)));
}

TEST_CASE("a command that waits for the manager does not keep its guest from leaving") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    host.manager.stop();
    guest.submit(commands::nv_define(kIndex, 1));
    host.run_for(std::chrono::milliseconds(100));
    SECTION("detached") {
        host.detach(kDevice);
        CHECK(host.run_until([&] { return host.own_state(kDevice) == "6"; }, std::chrono::seconds(3)));
    }
    SECTION("its driver is unloaded") {
        host.frontend_state(kDevice, 5);
        CHECK(host.run_until([&] { return host.own_state(kDevice) == "5"; }, std::chrono::seconds(3)));
    }
}

TEST_CASE("only the first command waits for a manager that stays away") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    CHECK(rc(host.execute(guest, commands::nv_define(kIndex, 1))) == 0);
    host.manager.stop();
    CHECK(rc(host.execute(guest, commands::nv_write(kIndex, Bytes{2}))) == 0x923);
    const auto before = std::chrono::steady_clock::now();
    CHECK(rc(host.execute(guest, commands::nv_write(kIndex, Bytes{2}))) == 0x923);
    CHECK(std::chrono::steady_clock::now() - before < std::chrono::seconds(2));
}

TEST_CASE("a change that was stored but not acknowledged is what the guest finds later") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    CHECK(rc(host.execute(guest, commands::nv_define(kIndex, 1))) == 0);
    CHECK(rc(host.execute(guest, commands::nv_write(kIndex, Bytes{1}))) == 0);
    CHECK(rc(host.execute(guest, commands::pcr_extend(3, 7))) == 0);
    const Bytes pcr = commands::pcr_value(host.execute(guest, commands::pcr_read(3)));
    host.manager.vanish_after_store = true;
    CHECK(rc(host.execute(guest, commands::nv_write(kIndex, Bytes{2}))) == 0x923);
    host.manager.start();
    CHECK(host.run_until([&] { return host.manager.in_use(kUuid); }));
    host.run_for(std::chrono::milliseconds(200));
    CHECK(commands::nv_data(host.execute(guest, commands::nv_read(kIndex, 1))) == Bytes{2});
    CHECK(commands::pcr_value(host.execute(guest, commands::pcr_read(3))) == pcr);
}

TEST_CASE("a store that lost acknowledged changes is not accepted by a running TPM") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    const FakeManager::Stored old = host.manager.store[kUuid];
    CHECK(rc(host.execute(guest, commands::nv_define(kIndex, 1))) == 0);
    host.manager.stop();
    host.manager.store[kUuid] = old;
    host.manager.start();
    CHECK(host.run_until([&] { return host.reason(kDevice).find("older") != std::string::npos; }));
    CHECK(rc(host.execute(guest, commands::nv_write(kIndex, Bytes{2}))) == 0x923);
    CHECK(host.manager.store[kUuid].sequence == old.sequence);
}

TEST_CASE("a TPM whose algorithms libtpms cannot restrict, or does not know, is not made") {
    TestHost host;
    LoopbackGuest guest;
    host.manager.algorithms = "rsa,quantum";
    host.offer(kDevice, kUuid, guest);
    host.frontend_initialised(kDevice);
    CHECK(host.reaches(kDevice, "5"));
    CHECK(host.reason(kDevice).find("algorithms") != std::string::npos);
    CHECK(host.manager.stores == 0);
}

TEST_CASE("state that is there and does not load stops the vTPM and is left as it is") {
    TestHost host;
    LoopbackGuest guest;
    const bool refused_by_manager = GENERATE(true, false);
    const Bytes garbage(600, 0x5a);
    host.manager.store[kUuid] = {TpmVersion::k20, 5, garbage};
    if (refused_by_manager) host.manager.answer_load = ErrorCode::kRefused;
    host.offer(kDevice, kUuid, guest);
    host.frontend_initialised(kDevice);
    CHECK(host.reaches(kDevice, "5"));
    CHECK(host.status(kDevice) == "failed");
    CHECK(host.reason(kDevice) != "");
    CHECK(host.reason(kDevice).find("forbidden") == std::string::npos);  // libtpms may say what it finds
    CHECK(host.manager.store[kUuid].state == garbage);
    CHECK(host.manager.stores == 0);
}

TEST_CASE("a guest that writes without end is listened to now and then, and served when it rests") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    const int before = host.xenstore.reads;
    constexpr int kWrites = 3000;
    for (int i = 0; i < kWrites; ++i) {
        host.frontend_state(kDevice, i % 2 == 0 ? 4 : 7);
        (void)sd_event_run(host.loop.raw(), 0);
    }
    CHECK(host.xenstore.reads - before < kWrites);
    host.frontend_state(kDevice, 5);
    CHECK(host.reaches(kDevice, "5"));
    host.frontend_state(kDevice, 6);
    CHECK(host.reaches(kDevice, "6"));
    host.frontend_initialised(kDevice);
    CHECK(host.reaches(kDevice, "4"));
    CHECK(rc(host.execute(guest, commands::get_random())) == 0);
}

TEST_CASE("a device in the place of one whose TPM just starts gets nothing that was meant for that") {
    TestHost host;
    LoopbackGuest guest;
    host.offer(kDevice, kUuid, guest);
    host.frontend_initialised(kDevice);
    const pid_t engine = host.engine_pid(kDevice);
    const std::string note = backend_path(0, kDevice) + "/powered-on";
    // xenstored has not told the daemon yet when the engine is ready.
    host.xenstore.be_late(true);
    host.remove(kDevice);
    const Uuid uuid = GENERATE(kUuid, Uuid::random());
    host.attach(kDevice, uuid);
    REQUIRE(host.run_until([&] { return !process_status(engine).contains("Name") || host.xenstore.read(note); }));
    CHECK_FALSE(host.xenstore.read(note));
    host.xenstore.be_late(false);
    // Of the note it would say that the PCRs were lost.
    host.restart_daemon();
    host.rings.guests[kDevice.domain] = &guest;
    REQUIRE(host.reaches(kDevice, "2"));
    host.frontend_initialised(kDevice);
    REQUIRE(host.reaches(kDevice, "4"));
    CHECK(host.reason(kDevice).empty());
}

TEST_CASE("a device that is attached in the place of one that is not listened to is looked at") {
    TestHost host;
    LoopbackGuest guest;
    LoopbackGuest neighbour;
    host.bring_up(kOther, Uuid::random(), neighbour);
    host.bring_up(kDevice, kUuid, guest);
    const pid_t engine = host.engine_pid(kDevice);
    const auto flood = [&] {
        for (int i = 0; i < 100; ++i) host.frontend_state(kDevice, 4);
    };
    for (int i = 0; i < 10; ++i) {
        flood();
        host.run_for(std::chrono::milliseconds(1));
    }
    host.remove(kDevice);
    host.attach(kDevice, kUuid);
    CHECK(host.run_until([&] {
        flood();
        host.xenstore.write(backend_path(0, kOther) + "/hotplug-status", "connected");  // anything of another device's
        return host.own_state(kDevice) == "2";
    }));
    CHECK(process_status(engine).empty());
}

TEST_CASE("a guest that has an answer to each word of its backend does not keep the daemon busy") {
    TestHost host;
    LoopbackGuest guest;
    LoopbackGuest other;
    host.bring_up(kDevice, kUuid, guest);
    host.bring_up(kOther, Uuid::random(), other);
    int answers = 0;
    host.xenstore.on_update = [&] { host.frontend_state(kDevice, 5 + ++answers % 2); };
    host.frontend_state(kDevice, 5);
    host.run_for(std::chrono::milliseconds(1000));
    CHECK(answers < 200);
    CHECK(rc(host.execute(other, commands::get_random())) == 0);
    host.xenstore.on_update = nullptr;
    host.detach(kDevice);
    CHECK(host.reaches(kDevice, "6"));
}

TEST_CASE("a manager that is restarted while a TPM starts costs its guest time only") {
    TestHost host;
    LoopbackGuest guest;
    host.offer(kDevice, kUuid, guest);
    host.manager.vanish_at_load = true;
    host.frontend_initialised(kDevice);
    REQUIRE(host.run_until([&] { return !host.manager.vanish_at_load; }));
    host.run_for(std::chrono::milliseconds(300));
    host.manager.start();
    REQUIRE(host.reaches(kDevice, "4"));
    CHECK(rc(host.execute(guest, commands::get_random())) == 0);
    CHECK(host.manager.power_ons == 1);
}

TEST_CASE("why a TPM does not start is told, whether its engine or its engine's end is heard first") {
    TestHost host;
    LoopbackGuest guest;
    host.manager.answer_load = ErrorCode::kRefused;
    for (std::uint32_t domain = 100; domain < 130; ++domain) {
        const DeviceId device{domain, 0};
        host.offer(device, Uuid::random(), guest);
        host.frontend_initialised(device);
        REQUIRE(host.reaches(device, "5"));
        CHECK(host.reason(device) == "as the test wants it");
    }
}

TEST_CASE("an attach that the manager refuses fails at once: the state node goes") {
    TestHost host;
    host.manager.answer_prepare = ErrorCode::kRefused;
    host.attach(kDevice, kUuid);
    CHECK(host.reaches(kDevice, "none"));
    CHECK(host.reason(kDevice) == "as the test wants it");
}

TEST_CASE("an attach waits for a manager that is restarting") {
    TestHost host;
    host.manager.stop();
    host.attach(kDevice, kUuid);
    host.run_for(std::chrono::milliseconds(600));
    CHECK(host.own_state(kDevice) == "1");
    host.manager.start();
    CHECK(host.reaches(kDevice, "2"));
}

// Without a limit of what is under way, the answers fill a socket that the real manager then closes.
TEST_CASE("a thousand questions at once are all answered") {
    TestHost host;
    int answered = 0;
    for (int i = 0; i < 1000; ++i)
        host.client->prepare(Uuid::random(), Beginning::kPowerOn, {},
                             [&](const Result<ManagedVtpm> &answer) { answered += answer ? 1 : 0; });
    CHECK(host.run_until([&] { return answered == 1000; }));
}

TEST_CASE("the same vTPM for a second guest is refused while the first runs") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    host.attach(kOther, kUuid);
    CHECK(host.reaches(kOther, "none"));
    CHECK(rc(host.execute(guest, commands::get_random())) == 0);
}

// It had been attached before the first one ran; a manager that has just started knows of neither.
TEST_CASE("the same vTPM never runs twice, whoever asks a restarted manager first") {
    TestHost host;
    LoopbackGuest guest;
    LoopbackGuest second;
    host.offer(kDevice, kUuid, second);
    host.bring_up(kOther, kUuid, guest);
    host.frontend_initialised(kDevice);
    host.run_for(std::chrono::milliseconds(50));
    host.manager.stop();
    host.run_for(std::chrono::milliseconds(50));
    const bool is_upgrade = GENERATE(false, true);  // the daemon is restarted, too
    if (is_upgrade) host.daemon_dies();
    host.manager.start();
    if (is_upgrade) REQUIRE(host.start());
    CHECK_FALSE(host.run_until([&] { return host.engines->count() != 1; }, std::chrono::seconds(1)));
    CHECK(host.reason(kDevice).find("already runs") != std::string::npos);
    CHECK(rc(host.execute(guest, commands::nv_define(kIndex, 8))) == 0);
    host.detach(kOther);
    CHECK(host.reaches(kDevice, "4"));
    CHECK(rc(host.execute(second, commands::get_random())) == 0);
}

TEST_CASE("a frontend with malformed numbers or a bad grant closes its own device only, until it starts over") {
    TestHost host;
    LoopbackGuest guest;
    LoopbackGuest other;
    host.bring_up(kOther, Uuid::random(), other);
    host.bring_up(kDevice, kUuid, guest);
    REQUIRE(rc(host.execute(guest, commands::pcr_extend(10, 1))) == 0);
    const Bytes extended = host.execute(guest, commands::pcr_read(10));
    host.frontend_state(kDevice, 1);
    REQUIRE(host.reaches(kDevice, "2"));
    const std::string ring_ref = GENERATE("", "-1", "8 ", "0x8", "4294967296", "666", "../../0");
    host.xenstore.write(frontend_path(kDevice) + "/ring-ref", ring_ref);
    host.xenstore.write(frontend_path(kDevice) + "/event-channel", "9");
    host.xenstore.write(frontend_path(kDevice) + "/feature-protocol-v2", "1");
    host.frontend_state(kDevice, 3);
    CHECK(host.reaches(kDevice, "5"));
    if (GENERATE(false, true)) {  // so quick that nobody sees it start over
        host.frontend_initialised(kDevice);
        CHECK(host.reaches(kDevice, "4"));
        return;
    }
    host.frontend_state(kDevice, 6);
    CHECK(host.reaches(kDevice, "6"));
    CHECK(host.reason(kDevice).find("ring is refused") != std::string::npos);
    CHECK(rc(host.execute(other, commands::get_random())) == 0);
    host.frontend_state(kDevice, 1);
    CHECK(host.reaches(kDevice, "2"));
    host.frontend_initialised(kDevice);
    CHECK(host.reaches(kDevice, "4"));
    CHECK(commands::pcr_value(host.execute(guest, commands::pcr_read(10))) == commands::pcr_value(extended));
}

TEST_CASE("an engine that dies fails the device until it is detached") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    REQUIRE(::kill(host.engine_pid(kDevice), SIGKILL) == 0);
    CHECK(host.reaches(kDevice, "5"));
    CHECK(host.reason(kDevice).find("signal 9") != std::string::npos);
    host.frontend_state(kDevice, 6);
    CHECK(host.reaches(kDevice, "6"));
    host.frontend_initialised(kDevice);  // rmmod and insmod do not help: the PCRs are lost
    host.run_for(std::chrono::milliseconds(300));
    CHECK(host.own_state(kDevice) == "6");
    host.detach(kDevice);
    host.remove(kDevice);
    host.run_for(std::chrono::milliseconds(50));
    host.bring_up(kDevice, kUuid, guest);
    CHECK(rc(host.execute(guest, commands::get_random())) == 0);
}

TEST_CASE("a daemon that finds a device which had an engine does not pretend: the device fails") {
    TestHost host;
    LoopbackGuest guest;
    host.rings.guests[kDevice.domain] = &guest;
    host.attach(kDevice, kUuid);
    host.xenstore.write(backend_path(0, kDevice) + "/powered-on", "1");
    host.xenstore.write(backend_path(0, kDevice) + "/state", "4");
    host.frontend_initialised(kDevice);
    CHECK(host.reaches(kDevice, "5"));
    CHECK(host.reason(kDevice).find("power cycled") != std::string::npos);
}

TEST_CASE("a TPM 1.2 is started up, enabled and activated") {
    TestHost host;
    LoopbackGuest guest;
    host.manager.store[kUuid].version = TpmVersion::k12;
    host.bring_up(kDevice, kUuid, guest);
    CHECK(rc(host.execute(guest, commands::tpm12_version())) == 0);
    const Bytes pcr = host.execute(guest, commands::tpm12_pcr_read(3));
    REQUIRE(rc(pcr) == 0);
    CHECK(Bytes(pcr.begin() + 10, pcr.end()) == Bytes(20, 0));
    const Bytes flags = host.execute(guest, commands::tpm12_permanent_flags());
    REQUIRE(flags.size() > 18);
    CHECK(flags.at(16) == 0);  // disable
    CHECK(flags.at(18) == 0);  // deactivated
}

TEST_CASE("what the manager does to a TPM is done at each power-on, after the start-up and once") {
    TestHost host;
    LoopbackGuest guest;
    host.manager.power_on = commands::pcr_extend(4, 0xcd);
    const Bytes second = commands::pcr_event(7, Bytes{1, 2, 3});
    host.manager.power_on.insert(host.manager.power_on.end(), second.begin(), second.end());
    const auto pcr = [&](unsigned number) {
        return commands::pcr_value(host.execute(guest, commands::pcr_read(number)));
    };
    host.bring_up(kDevice, kUuid, guest);
    const Bytes fourth = pcr(4);
    const Bytes seventh = pcr(7);
    CHECK(fourth != kZeroPcr);
    CHECK(seventh != kZeroPcr);
    CHECK(pcr(5) == kZeroPcr);
    CHECK(rc(host.execute(guest, commands::pcr_extend(4, 1))) == 0);
    const Bytes extended = pcr(4);

    // A manager that is restarted gets the TPM as it is.
    host.manager.stop();
    host.manager.start();
    REQUIRE(host.run_until([&] { return host.manager.in_use(kUuid); }));
    host.run_for(std::chrono::milliseconds(200));
    CHECK(rc(host.execute(guest, commands::nv_define(kIndex, 1))) == 0);
    CHECK(pcr(4) == extended);
    CHECK(host.manager.power_ons == 1);

    host.detach(kDevice);
    REQUIRE(host.reaches(kDevice, "6"));
    host.remove(kDevice);
    host.run_for(std::chrono::milliseconds(50));
    host.bring_up(kOther, kUuid, guest);
    CHECK(pcr(4) == fourth);
    CHECK(pcr(7) == seventh);
    CHECK(host.manager.power_ons == 2);
}

TEST_CASE("a TPM to which the manager cannot do what it must is not given to its guest") {
    TestHost host;
    LoopbackGuest guest;
    host.rings.guests[kDevice.domain] = &guest;
    SECTION("the manager says why") { host.manager.answer_power_on = ErrorCode::kRefused; }
    SECTION("a command fails") { host.manager.power_on = commands::pcr_extend(17, 1); }  // not of locality 0
    SECTION("a command is cut off") {
        host.manager.power_on = commands::get_random();
        host.manager.power_on.pop_back();
    }
    host.attach(kDevice, kUuid);
    REQUIRE(host.reaches(kDevice, "2"));
    host.frontend_initialised(kDevice);
    CHECK(host.reaches(kDevice, "5"));
    CHECK(host.status(kDevice) == "failed");
    CHECK(host.reason(kDevice) != "");
    CHECK(guest.state() != TPMIF_STATE_FINISH);
}

TEST_CASE("the platform hierarchy is closed before the guest gets the TPM") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    // The hierarchy is disabled: TPM_RC_HIERARCHY (handle 1).
    const Bytes response = host.execute(guest, commands::enable_platform());
    CHECK(rc(response) == 0x185);
}

TEST_CASE("two new vTPMs draw different random bytes") {
    TestHost host;
    LoopbackGuest one;
    LoopbackGuest two;
    host.bring_up(kDevice, kUuid, one);
    host.bring_up(kOther, Uuid::random(), two);
    CHECK(host.execute(one, commands::get_random()) != host.execute(two, commands::get_random()));
}

TEST_CASE("a malformed page gets a TPM error, and the engine lives on") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    const std::uint32_t length = GENERATE(0u, 9u, 4089u, 4096u, 0xffffffffu, 11u);
    const auto extra = static_cast<std::uint8_t>(GENERATE(0, 1, 255));
    const Bytes command = commands::get_random();
    std::memcpy(guest.page().data() + TPMIF_DATA_OFFSET(std::size_t{extra}), command.data(), command.size());
    guest.write_header(length, TPMIF_STATE_SUBMIT, 0, extra);
    guest.notify();
    REQUIRE(host.run_until([&] { return guest.state() == TPMIF_STATE_FINISH; }));
    const Bytes response = guest.response();
    CHECK(response == Bytes{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x42});
    CHECK(rc(host.execute(guest, command)) == 0);
}

TEST_CASE("a guest that rings without end for nothing is served when it has a command, and wakes nobody meanwhile") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    const auto sleeps = [&] {
        return std::stoul(process_status(host.engine_pid(kDevice)).at("voluntary_ctxt_switches"));
    };
    const unsigned long before = sleeps();
    constexpr int kRounds = 2000;
    for (int i = 0; i < kRounds; ++i) {
        if (i % 2 == 0) guest.write_header(TPMIF_PAGE_SIZE, TPMIF_STATE_SUBMIT);  // longer than the page has room for
        guest.notify();
        ::usleep(200);
    }
    // Two for each ring that is heard.
    CHECK(sleeps() - before < kRounds / 2);
    CHECK(rc(host.execute(guest, commands::get_random())) == 0);
}

TEST_CASE("states that are not the guest's to write are ignored, and a cancel without a command is answered") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    for (const int state : {0, 2, 4, 77, 255}) {
        guest.write_header(12, static_cast<std::uint8_t>(state));
        guest.notify();
        host.run_for(std::chrono::milliseconds(30));
        CHECK(guest.state() == state);
    }
    guest.write_header(12, TPMIF_STATE_CANCEL);
    guest.notify();
    CHECK(host.run_until([&] { return guest.state() == TPMIF_STATE_IDLE; }));
    CHECK(rc(host.execute(guest, commands::get_random())) == 0);
}

TEST_CASE("locality is a claim: any but 0 is refused") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    for (const int locality : {1, 4, 255}) {
        guest.submit(commands::get_random(), static_cast<std::uint8_t>(locality));
        REQUIRE(host.run_until([&] { return guest.state() == TPMIF_STATE_FINISH; }));
        CHECK(rc(guest.response()) == 0x907);
    }
}

TEST_CASE("an engine runs as a user of its own, with no privileges and a system call filter") {
    TestHost host;
    LoopbackGuest one;
    LoopbackGuest two;
    host.bring_up(kDevice, kUuid, one);
    host.bring_up(kOther, Uuid::random(), two);
    for (const auto &[device, uid] : {std::pair{kDevice, "1900000000"}, {kOther, "1900000001"}}) {
        const std::map status = process_status(host.engine_pid(device));
        CHECK(status.at("Uid") == fmt::format("{0}\t{0}\t{0}\t{0}", uid));
        CHECK(status.at("NoNewPrivs") == "1");
        CHECK(status.at("Seccomp") == "2");
        CHECK(status.at("CapPrm") == "0000000000000000");
    }
}

}  // namespace vtpm
