// SPDX-License-Identifier: Apache-2.0
// What firmware and manufacturer do for a TPM 1.2: it is enabled and active at each power-on, and has an endorsement
// key. The same with the tools of a guest: tests/integration/endorsement/tpm12_test.cpp.
#include "tests/catch.hpp"

#include "backend/engine/libtpms.hpp"
#include "tests/integration/backend/test_host.hpp"

namespace vtpm {
namespace {

using commands::Command;
using commands::kTpm12;

constexpr std::uint32_t kBadParameter = 3;

Bytes presence(std::uint16_t what) { return Command(kTpm12, 0x4000000A).u16(what).build(); }
Bytes read_pubek() { return Command(kTpm12, 0x7C).data(Bytes(20, 0)).build(); }

// As former programs made it: no endorsement key, and physical presence is not settled. What `commands` do is in its
// state, too.
struct Former {
    SecretBytes state;
    SecretBytes volatile_state;
};
Former former_tpm(const std::vector<Bytes> &commands) {
    Libtpms tpm(TpmVersion::k12);
    tpm.may_manufacture = true;
    REQUIRE(tpm.start());
    REQUIRE(return_code(tpm.process(start_up_command(TpmVersion::k12))) == 0);
    for (const Bytes &command : commands) REQUIRE(return_code(tpm.process(command)) == 0);
    return {std::move(*tpm.state(StateKind::kPermanent)), std::move(*tpm.state(StateKind::kVolatile))};
}
Bytes disable() { return Command(kTpm12, 0x70).build(); }
Bytes set_deactivated(std::uint8_t state) { return Command(kTpm12, 0x72).u8(state).build(); }
// By physical presence: enabled and active, and what comes after.
std::vector<Bytes> enabled_and(const std::vector<Bytes> &more = {}) {
    std::vector<Bytes> all{presence(0x20), presence(0x08), Command(kTpm12, 0x6F).build(), set_deactivated(0)};
    all.insert(all.end(), more.begin(), more.end());
    return all;
}

struct Host12 : TestHost {
    explicit Host12(const std::vector<Bytes> &former = {}) {
        auto &stored = manager.store[kUuid];
        stored.version = TpmVersion::k12;
        if (former.empty()) return;
        const Former tpm = former_tpm(former);
        stored.state.assign(tpm.state.view().begin(), tpm.state.view().end());
        stored.sequence = 1;
    }
    void power_cycle(bool first = false) {
        if (!first) {
            detach(kDevice);
            REQUIRE(reaches(kDevice, "6"));
            remove(kDevice);
            run_for(std::chrono::milliseconds(20));
        }
        bring_up(kDevice, kUuid, guest);
    }
    // Since the manufacture, or for this power-on: TPM_GetCapability of the permanent and the volatile flags.
    [[nodiscard]] bool enabled() {
        const Bytes permanent = execute(guest, commands::tpm12_permanent_flags());
        const Bytes volatile_flags = execute(guest, Command(kTpm12, 0x65).u32(4).u32(4).u32(0x109).build());
        REQUIRE(permanent.size() > 18);
        REQUIRE(volatile_flags.size() > 16);
        return permanent.at(16) == 0 && permanent.at(18) == 0 && volatile_flags.at(16) == 0;
    }
    LoopbackGuest guest;
};

}  // namespace

TEST_CASE("a new TPM 1.2 has an endorsement key, which stays") {
    Host12 host;
    host.power_cycle(true);
    CHECK(host.enabled());
    const Bytes key = host.execute(host.guest, read_pubek());
    REQUIRE(rc(key) == 0);
    const int stores = host.manager.stores;
    host.power_cycle();
    CHECK(host.manager.stores == stores);  // nothing had to be done
    CHECK(host.execute(host.guest, read_pubek()) == key);
}

TEST_CASE("a TPM 1.2 that was made without an endorsement key gets one at its next power-on") {
    Host12 host(enabled_and());
    host.power_cycle(true);
    CHECK(host.enabled());
    const Bytes key = host.execute(host.guest, read_pubek());
    REQUIRE(rc(key) == 0);
    host.power_cycle();
    CHECK(host.execute(host.guest, read_pubek()) == key);
}

TEST_CASE("an endorsement key that could not be stored is none") {
    Host12 host(enabled_and());
    host.manager.answer_store = ErrorCode::kStoreFailed;
    host.offer(kDevice, kUuid, host.guest);
    host.frontend_initialised(kDevice);
    REQUIRE(host.reaches(kDevice, "5"));
    host.manager.answer_store = ErrorCode::kNone;
    host.power_cycle();
    const Bytes key = host.execute(host.guest, read_pubek());
    REQUIRE(rc(key) == 0);
    host.power_cycle();
    CHECK(host.execute(host.guest, read_pubek()) == key);
}

TEST_CASE("a TPM 1.2 that is disabled and deactivated is neither after a power-on") {
    // As TPM_OwnerClear leaves it; and one of the two.
    const std::vector<Bytes> before = GENERATE(enabled_and({set_deactivated(1), disable()}), enabled_and({disable()}),
                                               enabled_and({set_deactivated(1)}));
    Host12 host(before);
    host.power_cycle(true);
    CHECK(host.enabled());
}

TEST_CASE("a guest asserts no physical presence, and cannot end it for good") {
    Host12 host;
    host.power_cycle(true);
    CHECK(rc(host.execute(host.guest, presence(0x08))) == kBadParameter);   // PRESENT
    CHECK(rc(host.execute(host.guest, presence(0x100))) == kBadParameter);  // CMD_DISABLE
    CHECK(rc(host.execute(host.guest, presence(0x40))) == kBadParameter);   // HW_ENABLE
    CHECK(rc(host.execute(host.guest, presence(0x80))) == kBadParameter);   // LIFETIME_LOCK
    host.power_cycle();
    CHECK(host.enabled());
}

TEST_CASE("a TPM 1.2 whose guest ended physical presence for good powers on as it is") {
    Host12 host(enabled_and({presence(0x180)}));  // CMD_DISABLE and LIFETIME_LOCK
    host.power_cycle(true);
    CHECK(host.enabled());
    CHECK(rc(host.execute(host.guest, presence(0x08))) == kBadParameter);
    CHECK(rc(host.execute(host.guest, read_pubek())) == 0);
}

TEST_CASE("a TPM 1.2 that can be enabled no more powers on disabled") {
    Host12 host(enabled_and({set_deactivated(1), disable(), presence(0x180)}));
    host.power_cycle(true);
    CHECK_FALSE(host.enabled());
    CHECK(rc(host.execute(host.guest, commands::tpm12_version())) == 0);
}

TEST_CASE("nothing is done to the TPM 1.2 of a guest that is restored") {
    Host12 host;
    auto &stored = host.manager.store[kUuid];
    const Former former = former_tpm(enabled_and({set_deactivated(1), disable()}));
    stored.state.assign(former.state.view().begin(), former.state.view().end());
    stored.sequence = 1;
    // Its guest was saved in the life before: Tpm::suspend().
    stored.volatile_state.assign(FakeDomains::kImage.bytes.begin(), FakeDomains::kImage.bytes.end());
    for (const std::uint8_t byte : Bytes{0, 0, 0, 1}) stored.volatile_state.push_back(byte);
    const ByteView volatile_state = former.volatile_state.view();
    stored.volatile_state.insert(stored.volatile_state.end(), volatile_state.begin(), volatile_state.end());
    const Bytes state = stored.state;
    host.domains.build(kDevice.domain, 2);
    REQUIRE(host.comes_up(kDevice, kUuid, host.guest));
    CHECK_FALSE(host.enabled());
    CHECK(stored.state == state);
    CHECK(host.manager.power_ons == 0);
}

}  // namespace vtpm
