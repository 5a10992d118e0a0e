// SPDX-License-Identifier: Apache-2.0
// Guests that are saved, restored and migrated: what their TPMs know then.
#include "tests/catch.hpp"

#include "tests/integration/backend/test_host.hpp"

namespace vtpm {
namespace {

constexpr DeviceId kRestored{9, 0};

Bytes read_pcr(TestHost &host, LoopbackGuest &guest) {
    return commands::pcr_value(host.execute(guest, commands::pcr_read(10)));
}

// A guest with something in PCR, NV and object slots, on kDevice.
struct Guest {
    explicit Guest(TestHost &host) {
        host.bring_up(kDevice, kUuid, page);
        REQUIRE(rc(host.execute(page, commands::pcr_extend(10, 0xab))) == 0);
        REQUIRE(rc(host.execute(page, commands::nv_define(kIndex, 8))) == 0);
        REQUIRE(rc(host.execute(page, commands::start_hash_sequence())) == 0);  // object 0x80000000
        pcr = read_pcr(host, page);
        REQUIRE(pcr != kZeroPcr);
    }
    LoopbackGuest page;
    Bytes pcr;
};

// As `xl save` or the source of a migration ends.
void begin_save(TestHost &host, DeviceId device = kDevice) {
    host.domains.facts(device.domain).suspended = true;
    host.detach(device);
}
void save(TestHost &host, DeviceId device = kDevice) {
    begin_save(host, device);
    REQUIRE(host.reaches(device, "6"));
    host.remove(device);
    host.run_for(std::chrono::milliseconds(20));
}

// What there is to be stored waits for the manager.
void save_while_the_manager_restarts(TestHost &host, DeviceId device) {
    host.manager.stop();
    host.run_for(std::chrono::milliseconds(50));
    begin_save(host, device);
    host.run_for(std::chrono::milliseconds(700));
    CHECK(host.own_state(device) == "5");
    host.manager.start();
    REQUIRE(host.reaches(device, "6"));
    host.remove(device);
}

// A domain with the memory of one that was saved in its life before this one.
void make_restored(TestHost &host, DeviceId device = kRestored, std::uint32_t life = 2) {
    host.domains.build(device.domain, life);
}

bool restore(TestHost &host, LoopbackGuest &page, DeviceId device = kRestored, std::uint32_t life = 2) {
    make_restored(host, device, life);
    return host.comes_up(device, kUuid, page);
}

// Its TPM knows what it knew.
void check_restored(TestHost &host, const Guest &guest) {
    LoopbackGuest page;
    REQUIRE(restore(host, page));
    CHECK(read_pcr(host, page) == guest.pcr);
}

// Its device is offered and then closed, with the reason.
bool restore_fails(TestHost &host, LoopbackGuest &page, DeviceId device = kRestored) {
    if (!host.is_offered(device, kUuid, page)) return false;
    host.frontend_initialised(device);
    return host.reaches(device, "5") && host.status(device) == "failed" &&
           host.reason(device).find("power cycle") != std::string::npos;
}

}  // namespace

TEST_CASE("a restored guest finds its TPM as it was: PCRs, objects, NV") {
    TestHost host;
    Guest guest(host);
    save(host);
    CHECK_FALSE(host.manager.in_use(kUuid));
    LoopbackGuest page;
    REQUIRE(restore(host, page));
    CHECK(read_pcr(host, page) == guest.pcr);
    CHECK(rc(host.execute(page, commands::flush(0x80000000))) == 0);
    CHECK(rc(host.execute(page, commands::nv_write(kIndex, Bytes(8, 7)))) == 0);
    CHECK(host.manager.power_ons == 1);
    SECTION("and again") {
        save(host, kRestored);
        LoopbackGuest next;
        REQUIRE(restore(host, next, {10, 0}, 3));
        CHECK(read_pcr(host, next) == guest.pcr);
        CHECK(commands::nv_data(host.execute(next, commands::nv_read(kIndex, 8))) == Bytes(8, 7));
    }
}

TEST_CASE("a guest that is started anew after a save has its PCRs at zero, and can be restored no more") {
    TestHost host;
    Guest guest(host);
    save(host);
    LoopbackGuest fresh;
    host.bring_up(kOther, kUuid, fresh);
    CHECK(read_pcr(host, fresh) == kZeroPcr);
    CHECK(host.manager.store[kUuid].volatile_state.empty());
    host.detach(kOther);
    REQUIRE(host.reaches(kOther, "6"));
    host.remove(kOther);
    LoopbackGuest page;
    make_restored(host);
    CHECK(restore_fails(host, page));
}

TEST_CASE("a guest is restored once") {
    TestHost host;
    Guest guest(host);
    save(host);
    LoopbackGuest page;
    REQUIRE(restore(host, page));
    SECTION("while it runs, another is refused at once") {
        make_restored(host, {10, 0});
        host.attach({10, 0}, kUuid);
        CHECK(host.reaches({10, 0}, "none"));
    }
    SECTION("when it has ended, another has no TPM") {
        host.detach(kRestored);
        REQUIRE(host.reaches(kRestored, "6"));
        host.remove(kRestored);
        LoopbackGuest again;
        make_restored(host, {10, 0});
        CHECK(restore_fails(host, again, {10, 0}));
    }
}

TEST_CASE("what is not suspended is powered off: a later restore has no TPM") {
    TestHost host;
    Guest guest(host);
    host.detach(kDevice);
    REQUIRE(host.reaches(kDevice, "6"));
    host.remove(kDevice);
    CHECK(host.manager.store[kUuid].volatile_state.empty());
    LoopbackGuest page;
    make_restored(host);
    CHECK(restore_fails(host, page));
}

TEST_CASE("in a migration the restored domain is there before the suspended one goes") {
    TestHost host;
    Guest guest(host);
    LoopbackGuest page;
    host.rings.guests[kRestored.domain] = &page;
    make_restored(host);
    SECTION("one that is not suspended keeps its vTPM") {
        host.attach(kRestored, kUuid);
        CHECK(host.reaches(kRestored, "none"));
        CHECK(read_pcr(host, guest.page) == guest.pcr);
    }
    SECTION("one that goes gives it over") {
        host.domains.facts(kDevice.domain).suspended = true;
        host.attach(kRestored, kUuid);
        REQUIRE(host.reaches(kRestored, "2"));
        host.frontend_initialised(kRestored);
        host.run_for(std::chrono::milliseconds(500));
        CHECK(host.own_state(kRestored) == "2");
        save(host);
        REQUIRE(host.reaches(kRestored, "4"));
        host.frontend_state(kRestored, 4);
        CHECK(read_pcr(host, page) == guest.pcr);
    }
    SECTION("one that goes on after all has lost nothing") {
        host.domains.facts(kDevice.domain).suspended = true;
        host.attach(kRestored, kUuid);
        REQUIRE(host.reaches(kRestored, "2"));
        host.detach(kRestored);
        REQUIRE(host.reaches(kRestored, "6"));
        host.domains.facts(kDevice.domain).suspended = false;
        CHECK(read_pcr(host, guest.page) == guest.pcr);
    }
}

TEST_CASE("a daemon that is restarted in a restore remembers it") {
    TestHost host;
    Guest guest(host);
    save(host);
    LoopbackGuest page;
    host.rings.guests[kRestored.domain] = &page;
    make_restored(host);
    host.attach(kRestored, kUuid);
    REQUIRE(host.reaches(kRestored, "2"));
    host.daemon_dies();
    host.domains.facts(kRestored.domain).has_run = true;
    REQUIRE(host.start());
    host.frontend_initialised(kRestored);
    REQUIRE(host.reaches(kRestored, "4"));
    CHECK(read_pcr(host, page) == guest.pcr);
}

TEST_CASE("a suspended TPM that cannot be stored is lost, and does not come back as another") {
    TestHost host;
    Guest guest(host);
    host.manager.answer_store = ErrorCode::kStoreFailed;
    save(host);
    host.manager.answer_store = ErrorCode::kNone;
    LoopbackGuest page;
    make_restored(host);
    CHECK(restore_fails(host, page));
}

TEST_CASE(
    "a guest that is started anew and never asks for its TPM has not the saved one's when it is restored in its turn") {
    TestHost host;
    Guest guest(host);
    save(host);
    host.attach(kOther, kUuid);
    REQUIRE(host.reaches(kOther, "2"));
    save(host, kOther);
    LoopbackGuest page;
    REQUIRE(restore(host, page));
    CHECK(read_pcr(host, page) == kZeroPcr);
    CHECK(rc(host.execute(page, commands::flush(0x80000000))) != 0);
}

TEST_CASE("a guest that is saved before its driver asked for the TPM finds it as it would have been") {
    TestHost host;
    {
        Guest guest(host);  // of a former life, which was shut down
        host.detach(kDevice);
        REQUIRE(host.reaches(kDevice, "6"));
        host.remove(kDevice);
        host.run_for(std::chrono::milliseconds(20));
    }
    host.attach(kOther, kUuid);
    REQUIRE(host.reaches(kOther, "2"));
    SECTION("at once") { save(host, kOther); }
    SECTION("while the manager is restarted") { save_while_the_manager_restarts(host, kOther); }
    SECTION("in the daemon's restart") {
        host.daemon_dies();
        host.domains.facts(kOther.domain).suspended = true;
        host.detach(kOther);
        REQUIRE(host.start());
        REQUIRE(host.reaches(kOther, "6"));
        host.remove(kOther);
    }
    SECTION("and again") {
        save(host, kOther);
        make_restored(host);
        host.attach(kRestored, kUuid);
        REQUIRE(host.reaches(kRestored, "2"));
        save(host, kRestored);
        LoopbackGuest page;
        REQUIRE(restore(host, page, {10, 0}, 3));
        CHECK(read_pcr(host, page) == kZeroPcr);
        return;
    }
    LoopbackGuest page;
    REQUIRE(restore(host, page));
    CHECK(read_pcr(host, page) == kZeroPcr);
    CHECK(rc(host.execute(page, commands::nv_write(kIndex, Bytes(8, 7)))) == 0);
}

TEST_CASE("a guest whose unused TPM cannot be kept goes within libxl's time all the same") {
    TestHost host;
    host.attach(kDevice, kUuid);
    REQUIRE(host.reaches(kDevice, "2"));
    host.manager.stop();
    host.run_for(std::chrono::milliseconds(50));
    host.domains.facts(kDevice.domain).suspended = true;
    const auto began = std::chrono::steady_clock::now();
    host.detach(kDevice);
    REQUIRE(host.reaches(kDevice, "6"));
    CHECK(std::chrono::steady_clock::now() - began < std::chrono::seconds(9));
}

TEST_CASE("in a migration a guest may ask for its TPM first when it has arrived") {
    TestHost host;
    host.attach(kDevice, kUuid);
    REQUIRE(host.reaches(kDevice, "2"));
    host.domains.facts(kDevice.domain).suspended = true;
    LoopbackGuest page;
    host.rings.guests[kRestored.domain] = &page;
    make_restored(host);
    host.attach(kRestored, kUuid);
    REQUIRE(host.reaches(kRestored, "2"));
    // Nor does it come too early because Xen said nothing of where it comes from.
    if (GENERATE(false, true)) host.domains.silent_about = {kDevice.domain};
    host.frontend_initialised(kRestored);
    host.run_for(std::chrono::milliseconds(500));
    host.domains.silent_about.clear();
    CHECK(host.own_state(kRestored) == "2");
    save(host);
    REQUIRE(host.reaches(kRestored, "4"));
    host.frontend_state(kRestored, 4);
    CHECK(read_pcr(host, page) == kZeroPcr);
}

TEST_CASE("what a TPM knew goes with its guest's memory only") {
    TestHost host;
    Guest guest(host);
    save(host);
    LoopbackGuest page;
    make_restored(host);
    SECTION("not with another guest's") { host.domains.facts(kRestored.domain).incarnation.domain = kUuid; }
    SECTION("not with that of another of its lives") { host.domains.facts(kRestored.domain).incarnation.number = 3; }
    CHECK(restore_fails(host, page));
}

TEST_CASE("a guest that goes on in a soft reset gets no TPM with zero PCRs") {
    TestHost host;
    Guest guest(host);
    host.detach(kDevice);
    REQUIRE(host.reaches(kDevice, "6"));
    host.remove(kDevice);
    host.run_for(std::chrono::milliseconds(20));
    host.domains.facts(kDevice.domain).has_run = true;
    host.attach(kDevice, kUuid);
    CHECK(host.reaches(kDevice, "none"));
    SECTION("one that runs gets it by its administrator's hand, which is a power cycle") {
        host.remove(kDevice);
        host.run_for(std::chrono::milliseconds(20));
        host.domains.facts(kDevice.domain).paused = false;
        host.attach(kDevice, kUuid);
        CHECK(host.reaches(kDevice, "2"));
    }
}

TEST_CASE("a guest that is saved while the manager is restarted loses nothing") {
    TestHost host;
    Guest guest(host);
    save_while_the_manager_restarts(host, kDevice);
    check_restored(host, guest);
}

TEST_CASE("a guest that is saved while daemon and manager are restarted loses nothing") {
    TestHost host;
    Guest guest(host);
    host.daemon_dies();
    host.manager.stop();
    begin_save(host);
    REQUIRE(host.start());
    host.run_for(std::chrono::milliseconds(700));
    CHECK(host.own_state(kDevice) == "5");
    host.manager.start();
    REQUIRE(host.reaches(kDevice, "6"));
    host.remove(kDevice);
    check_restored(host, guest);
}

TEST_CASE("a guest that is saved while Xen cannot be asked for a moment loses nothing") {
    TestHost host;
    Guest guest(host);
    host.domains.facts(kDevice.domain).suspended = true;
    host.domains.silent = true;
    host.detach(kDevice);
    host.run_for(std::chrono::milliseconds(600));
    CHECK(host.own_state(kDevice) == "5");
    host.domains.silent = false;
    REQUIRE(host.reaches(kDevice, "6"));
    host.remove(kDevice);
    check_restored(host, guest);
}

TEST_CASE("a save takes as long as what it stores: no engine is killed in the middle of that") {
    TestHost host;
    host.power_off_limit = std::chrono::milliseconds(100);
    host.restart_daemon();
    Guest guest(host);
    host.manager.store_takes = std::chrono::milliseconds(600);
    begin_save(host);
    host.run_for(std::chrono::milliseconds(300));
    CHECK(host.own_state(kDevice) == "5");
    save(host);
    check_restored(host, guest);
}

// libxl goes on after 10 s, and destroys the domain.
TEST_CASE("a guest that is restored while its TPM is still being stored waits for it") {
    TestHost host;
    Guest guest(host);
    host.manager.store_takes = std::chrono::seconds(2);
    begin_save(host);
    host.run_for(std::chrono::milliseconds(300));
    host.remove(kDevice);
    host.domains.gone.insert(kDevice.domain);
    host.run_for(std::chrono::milliseconds(100));
    CHECK(host.engines->count() == 1);
    check_restored(host, guest);
}

TEST_CASE("a guest that is saved as soon as its group is open again loses nothing") {
    TestHost host;
    Guest guest(host);
    host.manager.stop();
    host.manager.answer_load = ErrorCode::kRefused;
    host.manager.start();
    REQUIRE(host.run_until([&] { return host.reason(kDevice).starts_with("cannot store"); }));
    host.run_for(std::chrono::milliseconds(300));
    host.manager.answer_load = ErrorCode::kNone;
    save(host);
    check_restored(host, guest);
}

TEST_CASE("a guest that is saved while its engine takes a new channel, whose manager goes again, loses nothing") {
    TestHost host;
    Guest guest(host);
    host.manager.stop();
    host.run_for(std::chrono::milliseconds(50));
    host.manager.silent_at_load = true;
    const int loads = host.manager.loads;
    host.manager.start();
    REQUIRE(host.run_until([&] { return host.manager.loads == loads + 1; }));
    begin_save(host);
    host.run_for(std::chrono::milliseconds(300));
    host.manager.stop();
    host.manager.silent_at_load = false;
    host.manager.start();
    REQUIRE(host.reaches(kDevice, "6"));
    host.remove(kDevice);
    check_restored(host, guest);
}

TEST_CASE("a guest that ends does not wait for an engine that does not") {
    TestHost host;
    host.power_off_limit = std::chrono::milliseconds(100);
    host.restart_daemon();
    Guest guest(host);
    host.manager.store_takes = std::chrono::seconds(5);
    host.detach(kDevice);
    CHECK(host.run_until([&] { return host.own_state(kDevice) == "6"; }, std::chrono::seconds(2)));
}

TEST_CASE("where Xen does not say whether a domain is restored nothing is attached") {
    TestHost host;
    host.domains.silent = true;
    host.attach(kDevice, kUuid);
    CHECK(host.reaches(kDevice, "none"));
}

TEST_CASE("an attach waits while Xen has no memory to answer") {
    TestHost host;
    host.domains.silent = true;
    host.domains.silence = ErrorCode::kShortage;
    host.attach(kDevice, kUuid);
    host.run_for(std::chrono::milliseconds(600));
    CHECK(host.own_state(kDevice) == "1");
    host.domains.silent = false;
    CHECK(host.reaches(kDevice, "2"));
}

}  // namespace vtpm
