// SPDX-License-Identifier: Apache-2.0
// A host's ordinary bad days, at random and for a while: guests that come, go, reboot, are saved and restored, daemons
// and managers that are restarted, a full disk, too few descriptors. No guest loses its TPM, a PCR or what was
// acknowledged.
//
// XEN_VTPM_SOAK_GUESTS=N, XEN_VTPM_SOAK_SECONDS=N, XEN_VTPM_SEED=N (random, printed).
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <random>

#include "base/log.hpp"
#include "tests/integration/backend/test_host.hpp"

namespace vtpm {
namespace {

using Clock = std::chrono::steady_clock;
constexpr unsigned kPcr = 10;

std::uint64_t setting(const char *name, std::uint64_t otherwise) {
    const char *text = std::getenv(name);
    return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

std::size_t open_descriptors() {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

// A guest, and what its TPM must know.
class Soaked {
public:
    Soaked(TestHost &host, std::uint32_t domain) : host_(host), id_{domain, 0} {}

    void power_on() {
        life_ = 1;
        host_.domains.build(id_.domain);
        come_up();
        pcr_ = kZeroPcr;
        check();
    }
    void create_index() { REQUIRE(rc(run(commands::nv_define(kIndex, 8))) == 0); }
    void extend() {
        REQUIRE(rc(run(commands::pcr_extend(kPcr, 0xab))) == 0);
        const Bytes after = read_pcr();
        REQUIRE(after != pcr_);
        pcr_ = after;
    }
    void write(bool must_succeed) {
        const Bytes next(8, static_cast<std::uint8_t>(++written_));
        const auto began = Clock::now();
        const bool stored = rc(run(commands::nv_write(kIndex, next))) == 0;
        if (stored) nv_ = next;
        CAPTURE(id_.domain, host_.status(id_), host_.reason(id_));
        if (stored || !must_succeed) return;
        // On a machine that is so busy that the next manager's channel does not come in time.
        REQUIRE(Clock::now() - began >= limits::kManagerRestart);
        ++gave_up;
    }
    void reboot() {
        leave();
        power_on();
    }
    void save_and_restore() {
        host_.domains.facts(id_.domain).suspended = true;
        leave();
        host_.domains.build(id_.domain, ++life_);
        come_up();
        check();
    }
    void reload_driver() {
        host_.frontend_state(id_, 5);
        REQUIRE(host_.reaches(id_, "5"));
        host_.frontend_state(id_, 6);
        REQUIRE(host_.reaches(id_, "6"));
        host_.frontend_state(id_, 1);
        connect();
        check();
    }
    void leave() {
        host_.detach(id_);
        REQUIRE(host_.reaches(id_, "6"));
        host_.remove(id_);
        REQUIRE(host_.run_until([&] { return !host_.backend->devices().contains(id_); }));
    }
    int gave_up = 0;  // writes
    void check() {
        CAPTURE(id_.domain, host_.status(id_), host_.reason(id_));
        REQUIRE(read_pcr() == pcr_);
        if (!nv_.empty()) REQUIRE(commands::nv_data(run(commands::nv_read(kIndex, 8))) == nv_);
    }

private:
    void come_up() {
        host_.rings.guests[id_.domain] = &page_;
        host_.attach(id_, uuid_);
        connect();
    }
    void connect() {
        CAPTURE(id_.domain);
        REQUIRE(host_.reaches(id_, "2"));
        host_.frontend_initialised(id_);
        REQUIRE(host_.reaches(id_, "4"));
        host_.frontend_state(id_, 4);
        host_.domains.facts(id_.domain).paused = false;
        host_.domains.facts(id_.domain).has_run = true;
    }
    Bytes run(const Bytes &command) { return host_.execute(page_, command); }
    Bytes read_pcr() { return commands::pcr_value(run(commands::pcr_read(kPcr))); }

    TestHost &host_;
    DeviceId id_;
    const Uuid uuid_ = Uuid::random();
    LoopbackGuest page_;
    std::uint32_t life_ = 0;
    std::uint64_t written_ = 0;
    Bytes pcr_ = kZeroPcr;
    Bytes nv_{};
};

// No new descriptor for this process, as long as it lives.
class FewDescriptors {
public:
    FewDescriptors() {
        (void)::getrlimit(RLIMIT_NOFILE, &former_);
        const rlimit few{open_descriptors() + 1, former_.rlim_max};
        (void)::setrlimit(RLIMIT_NOFILE, &few);
    }
    ~FewDescriptors() { (void)::setrlimit(RLIMIT_NOFILE, &former_); }
    FewDescriptors(const FewDescriptors &) = delete;
    FewDescriptors &operator=(const FewDescriptors &) = delete;

private:
    rlimit former_{};
};

class BadDays {
public:
    BadDays(TestHost &host, std::deque<Soaked> &guests, std::uint64_t seed)
        : host_(host), guests_(guests), random_(seed) {}

    void go_on() {
        constexpr std::array<std::pair<unsigned, void (BadDays::*)()>, 9> kChoices{{{40, &BadDays::use},
                                                                                    {60, &BadDays::reboot},
                                                                                    {75, &BadDays::save},
                                                                                    {85, &BadDays::reload},
                                                                                    {88, &BadDays::restart_daemon},
                                                                                    {91, &BadDays::restart_manager},
                                                                                    {93, &BadDays::upgrade},
                                                                                    {97, &BadDays::full_disk},
                                                                                    {100, &BadDays::few_descriptors}}};
        const auto number = static_cast<unsigned>(random_() % 100);
        log::info("choice {}", number);
        for (const auto &[below, action] : kChoices)
            if (number < below) return (this->*action)();
    }

private:
    Soaked &any() { return guests_[random_() % guests_.size()]; }
    void use() {
        Soaked &guest = any();
        guest.check();
        guest.extend();
        guest.write(true);
    }
    void reboot() { any().reboot(); }
    void save() { any().save_and_restore(); }
    void reload() { any().reload_driver(); }
    void restart_daemon() {
        host_.restart_daemon();
        any().check();
    }
    void restart_manager() {
        host_.manager.stop();
        any().check();  // reads need no manager
        host_.manager.start();
        any().write(true);
    }
    void upgrade() {
        host_.manager.stop();
        host_.daemon_dies();
        host_.manager.start();
        REQUIRE(host_.start());
        any().save_and_restore();
    }
    void full_disk() {
        host_.manager.answer_store = ErrorCode::kStoreFailed;
        Soaked &guest = any();
        guest.write(false);
        host_.manager.answer_store = ErrorCode::kNone;
        guest.check();
        guest.write(true);
    }
    void few_descriptors() {
        Soaked &guest = any();
        guest.leave();
        {
            const FewDescriptors few;
            host_.run_for(std::chrono::milliseconds(20));
        }
        guest.power_on();
    }

    TestHost &host_;
    std::deque<Soaked> &guests_;
    std::mt19937_64 random_;
};

}  // namespace

TEST_CASE("a host's bad days cost no guest its TPM") {
    const std::uint64_t seed = setting("XEN_VTPM_SEED", std::random_device()());
    const std::uint64_t count = setting("XEN_VTPM_SOAK_GUESTS", 40);
    const std::chrono::seconds limit(setting("XEN_VTPM_SOAK_SECONDS", 20));
    std::cout << "seed " << seed << '\n';
    TestHost host;
    std::deque<Soaked> guests;
    for (std::uint64_t i = 0; i < count; ++i) {
        guests.emplace_back(host, static_cast<std::uint32_t>(10 + i)).power_on();
        guests.back().create_index();
        guests.back().write(true);
    }
    const std::size_t descriptors = open_descriptors() - 2 * host.service.store.size();
    BadDays days(host, guests, seed);
    const auto began = Clock::now();
    std::uint64_t steps = 0;
    for (; Clock::now() - began < limit; ++steps) days.go_on();
    for (Soaked &guest : guests) {
        guest.check();
        guest.extend();
        guest.write(true);
    }
    int gave_up = 0;
    for (const Soaked &guest : guests) gave_up += guest.gave_up;
    std::cout << steps << " steps with " << count << " guests, " << gave_up << " writes gave up\n";
    CHECK(static_cast<std::uint64_t>(gave_up) <= 1 + steps / 50);
    CHECK(host.engines->count() == count);
    CHECK(open_descriptors() - 2 * host.service.store.size() == descriptors);
}

}  // namespace vtpm
