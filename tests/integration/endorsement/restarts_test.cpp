// SPDX-License-Identifier: Apache-2.0
// What a TPM counts from one power-on to the next: failed tries of authorizations (TCG Part 1, 19.8), and time (36).
#include <nlohmann/json.hpp>

#include "base/big_endian.hpp"
#include "machine.hpp"

namespace vtpm {
namespace {

using commands::Command;

constexpr std::uint32_t kIndex = 0x01500002;
constexpr std::uint32_t kRetry = 0x922;          // TPM_RC_RETRY
constexpr std::uint32_t kNvUnavailable = 0x923;  // TPM_RC_NV_UNAVAILABLE
constexpr std::uint32_t kLockout = 0x921;        // TPM_RC_LOCKOUT
constexpr std::uint32_t kAuthFail = 0x98E;       // TPM_RC_AUTH_FAIL, of the first session
constexpr std::uint32_t kLockoutAuth = 0x4000000A;

struct TimeInfo {
    std::uint64_t clock;
    std::uint32_t reset_count;
    bool safe;
};

struct Restarted : Machine {
    using Machine::Machine;

    void orderly() {
        power_off();
        power_on();
    }
    // Without TPM2_Shutdown.
    void killed() {
        const auto pid = [&] { return static_cast<pid_t>(host->backend->devices().at(device)->engine_pid()); };
        REQUIRE(::kill(pid(), SIGKILL) == 0);
        REQUIRE(host->run_until([&] { return pid() == 0; }));
        orderly();  // for libxl
    }
    // TPM2_ReadClock
    TimeInfo time() {
        const Bytes read = execute(Command(commands::kNoSessions, 0x181).build());
        REQUIRE(return_code(read) == 0);
        const ByteView info = ByteView(read).subspan(10);
        return {big_endian(info.subspan(8, 8)), static_cast<std::uint32_t>(big_endian(info.subspan(16, 4))),
                info.back() == 1};
    }
    // TPM2_ClockSet by the owner.
    std::uint32_t set_clock(std::uint64_t value) {
        return return_code(execute(Command(commands::kSessions, 0x128)
                                       .u32(commands::kOwner)
                                       .password()
                                       .u32(static_cast<std::uint32_t>(value >> 32))
                                       .u32(static_cast<std::uint32_t>(value))
                                       .build()));
    }
    std::uint64_t stores() {
        return nlohmann::json::parse(xen_vtpm({"--json", "show", uuid.to_string()}).out)["sequence"];
    }

    // TPM_PT_LOCKOUT_COUNTER
    std::uint32_t failed_tries() {
        const Bytes told = execute(Command(commands::kNoSessions, 0x17A).u32(6).u32(0x20E).u32(1).build());
        REQUIRE(return_code(told) == 0);
        return static_cast<std::uint32_t>(big_endian(ByteView(told).last(4)));
    }
    // An index whose password is protected against dictionary attacks.
    void define() {
        const Bytes define = Command(commands::kSessions, 0x12A)
                                 .u32(commands::kOwner)
                                 .password()
                                 .sized(bytes_of("secret"))
                                 .u16(14)
                                 .u32(kIndex)
                                 .u16(commands::kSha256)
                                 .u32(0x00060006)
                                 .u16(0)
                                 .u16(1)
                                 .build();
        REQUIRE(return_code(execute(define)) == 0);
        const Bytes write = Command(commands::kSessions, 0x137)
                                .u32(commands::kOwner)
                                .u32(kIndex)
                                .password()
                                .sized(Bytes(1))
                                .u16(0)
                                .build();
        REQUIRE(return_code(execute(write)) == 0);
    }
    std::uint32_t read_once(const std::string &password) {
        return return_code(execute(Command(commands::kSessions, 0x14E)
                                       .u32(kIndex)
                                       .u32(kIndex)
                                       .u32(static_cast<std::uint32_t>(9 + password.size()))
                                       .u32(0x40000009)
                                       .u16(0)
                                       .u8(0)
                                       .sized(bytes_of(password))
                                       .u16(1)
                                       .u16(0)
                                       .build()));
    }
    // The first use of such a password after a power-on is noted first, and to be tried again.
    std::uint32_t read(const std::string &password) {
        const std::uint32_t code = read_once(password);
        return code == kRetry ? read_once(password) : code;
    }
};

}  // namespace

TEST_CASE("failed tries are counted over orderly and other ends, and an orderly end is no failed try") {
    Restarted machine;
    machine.power_on();
    machine.define();
    REQUIRE(machine.read("wrong") == kAuthFail);
    REQUIRE(machine.failed_tries() == 1);
    for (int i = 0; i < 5; ++i) {
        machine.orderly();
        REQUIRE(machine.failed_tries() == 1);
        REQUIRE(machine.read("secret") == 0);
    }
    // What might have been a failed try that was not recorded is one.
    machine.killed();
    REQUIRE(machine.failed_tries() == 2);
    // Nothing protected was used since.
    for (int i = 0; i < 3; ++i) machine.killed();
    REQUIRE(machine.failed_tries() == 2);

    REQUIRE(machine.read("wrong") == kAuthFail);
    REQUIRE(machine.failed_tries() == 3);
    REQUIRE(machine.read("secret") == kLockout);
    machine.orderly();
    REQUIRE(machine.read("secret") == kLockout);
    machine.killed();
    REQUIRE(machine.read("secret") == kLockout);
    // TPM2_DictionaryAttackLockReset
    const Bytes reset = Command(commands::kSessions, 0x139).u32(kLockoutAuth).password().build();
    REQUIRE(return_code(machine.execute(reset)) == 0);
    REQUIRE(machine.read("secret") == 0);
    machine.orderly();
    REQUIRE(machine.failed_tries() == 0);
}

TEST_CASE("who guesses while nothing can be stored learns nothing") {
    Restarted machine;
    machine.power_on();
    machine.define();
    REQUIRE(machine.read("secret") == 0);
    machine.manager->end(SIGKILL);
    machine.manager.reset();
    for (int i = 0; i < 10; ++i) REQUIRE(machine.read("wrong") == kNvUnavailable);
    REQUIRE(machine.read("secret") == kNvUnavailable);
    REQUIRE(return_code(machine.execute(commands::nv_define(kIndex + 1, 1))) == kNvUnavailable);
    REQUIRE(machine.read("secret") == kNvUnavailable);
    machine.manager.emplace(machine.place);
    REQUIRE(machine.host->run_until([&] { return machine.read("secret") == 0; }));
    REQUIRE(machine.failed_tries() == 1);
}

TEST_CASE("Clock never goes back, and each power-on is a reset") {
    Restarted machine;
    machine.power_on();
    TimeInfo before = machine.time();
    const auto later = [&] {
        const TimeInfo now = machine.time();
        REQUIRE(now.clock >= before.clock);
        REQUIRE(now.safe);
        REQUIRE(now.reset_count == before.reset_count + 1);
        before = now;
    };
    for (int i = 0; i < 3; ++i) {
        machine.orderly();
        later();
    }
    for (int i = 0; i < 3; ++i) {
        machine.killed();
        later();
    }
    // Longer than libtpms' own interval, after which it would say that Clock is safe.
    machine.host->run_for(std::chrono::seconds(5));
    before = machine.time();
    machine.killed();
    later();
    machine.orderly();
    later();
    // As its owner sets it.
    before.clock += 1'000'000'000;
    REQUIRE(machine.set_clock(before.clock) == 0);
    machine.killed();
    later();
    // While nothing can be stored it is not told.
    machine.manager->end(SIGKILL);
    machine.manager.reset();
    REQUIRE(machine.set_clock(before.clock + 1'000'000'000) == kNvUnavailable);
    const Bytes read_clock = Command(commands::kNoSessions, 0x181).build();
    REQUIRE(return_code(machine.execute(read_clock)) == kNvUnavailable);
    machine.manager.emplace(machine.place);
    REQUIRE(machine.host->run_until([&] { return return_code(machine.execute(read_clock)) == 0; }));
    before = machine.time();
    machine.killed();
    later();
    // As late as it may be.
    REQUIRE(machine.set_clock(0xFFFF'0000'0000'0000) == 0);
    machine.killed();
    REQUIRE(machine.time().clock >= 0xFFFF'0000'0000'0000);
}

TEST_CASE("Clock is stored once a minute, if the TPM is used") {
    Restarted machine;
    machine.power_on();
    const std::uint64_t stores = machine.stores();
    for (int i = 0; i < 10; ++i) REQUIRE(return_code(machine.execute(commands::get_random())) == 0);
    REQUIRE(machine.stores() == stores);
    machine.host->run_for(std::chrono::seconds(61));
    REQUIRE(machine.stores() == stores);
    for (int i = 0; i < 10; ++i) REQUIRE(return_code(machine.execute(commands::get_random())) == 0);
    REQUIRE(machine.stores() == stores + 1);
}

}  // namespace vtpm
