// SPDX-License-Identifier: Apache-2.0
// A host's ordinary bad days, at random and for a while: guests that come, go, reboot, are saved and restored, daemons
// and managers that are restarted, a full disk, too few descriptors, too little memory. No guest loses its TPM, a PCR
// or what was acknowledged.
//
// XEN_VTPM_SOAK_GUESTS=N, XEN_VTPM_SOAK_SECONDS=N, XEN_VTPM_SEED=N (random, printed). From kLong on, the memory of the
// engines' parents must not grow, and a guest that does nothing but read a PCR now and then must not notice the others.
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <iostream>
#include <mutex>
#include <random>
#include <thread>

#include "base/log.hpp"
#include "tests/integration/backend/test_host.hpp"

namespace vtpm {
namespace {

using Clock = std::chrono::steady_clock;
constexpr unsigned kPcr = 10;
constexpr std::chrono::minutes kLong{5};

std::uint64_t setting(const char *name, std::uint64_t otherwise) {
    const char *text = std::getenv(name);
    return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// A thousand guests and their engines' sockets are more than a shell lets a process have.
void raise_descriptor_limit() {
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

// Of a process, in KiB: what it shares with nobody's file.
std::size_t anonymous_memory(int process) {
    std::ifstream file(fmt::format("/proc/{}/smaps_rollup", process));
    for (std::string key; file >> key;)
        if (std::size_t size = 0; key == "Pss_Anon:" && file >> size) return size;
    return 0;
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
    pid_t engine() { return host_.engine_pid(id_); }
    bool is_connected() { return host_.own_state(id_) == "4"; }
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

// Zygotes and engines that get no more memory, as long as it lives. Engines that are started meanwhile are as short.
class LittleMemory {
public:
    // A sanitizer's own allocator ends who gets none.
#if defined(__SANITIZE_ADDRESS__)
    static constexpr bool kPossible = false;
#else
    static constexpr bool kPossible = true;
#endif

    LittleMemory(std::vector<pid_t> zygotes, pid_t engine) : zygotes_(std::move(zygotes)), engine_(engine) {
        for (const pid_t zygote : zygotes_) limit(zygote, size_of(zygote));
        limit(engine_, size_of(engine_));
    }
    ~LittleMemory() {
        for (const pid_t zygote : zygotes_) {
            limit(zygote, RLIM_INFINITY);  // first: from now on nobody is started with less
            std::ifstream children(fmt::format("/proc/{0}/task/{0}/children", zygote));
            for (pid_t child = 0; children >> child;) limit(child, RLIM_INFINITY);
        }
    }
    LittleMemory(const LittleMemory &) = delete;
    LittleMemory &operator=(const LittleMemory &) = delete;

private:
    static rlim_t size_of(pid_t process) {
        std::ifstream file(fmt::format("/proc/{}/statm", process));
        rlim_t pages = 0;
        REQUIRE(file >> pages);
        return pages * static_cast<rlim_t>(::getpagesize());
    }
    // By a process of its user, which root may lack the right to (CAP_SYS_RESOURCE). The process may have ended.
    static void limit(pid_t process, rlim_t bytes) {
        const rlimit limit{bytes, RLIM_INFINITY};
        const uid_t user = user_of(process);
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            const bool became = ::setresgid(user, user, user) == 0 && ::setresuid(user, user, user) == 0;
            ::_exit(became && (::prlimit(process, RLIMIT_AS, &limit, nullptr) == 0 || errno == ESRCH) ? 0 : 1);
        }
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        CHECK(status == 0);
    }
    static uid_t user_of(pid_t process) {
        std::ifstream file(fmt::format("/proc/{}/status", process));
        uid_t user = 0;
        for (std::string word; file >> word;)
            if (word == "Uid:") file >> user;
        return user;
    }

    std::vector<pid_t> zygotes_;
    pid_t engine_;
};

// Reads a PCR a hundred times a second, in a thread of its own: nobody is to keep it waiting.
class QuietGuest {
public:
    explicit QuietGuest(TestHost &host) {
        host.bring_up(kDevice, Uuid::random(), page_);
        thread_ = std::jthread([this](const std::stop_token &ended) {
            while (!ended.stop_requested()) {
                const auto began = Clock::now();
                const bool answered = rc(page_.execute(commands::pcr_read(kPcr))) == 0;
                {
                    const std::lock_guard hold(lock_);
                    took_.push_back(Clock::now() - began);
                    failed_ += answered ? 0 : 1;
                }
                std::this_thread::sleep_for(std::chrono::milliseconds(10));
            }
        });
    }

    // Since the last time it was asked: of a hundred commands the one before the slowest.
    double p99_us() {
        const std::lock_guard hold(lock_);
        REQUIRE_FALSE(took_.empty());
        std::ranges::sort(took_);
        const Clock::duration found = took_.at(took_.size() * 99 / 100);
        took_.clear();
        return std::chrono::duration<double, std::micro>(found).count();
    }
    int failed() {
        const std::lock_guard hold(lock_);
        return failed_;
    }

private:
    LoopbackGuest page_;
    std::mutex lock_;
    std::vector<Clock::duration> took_;
    int failed_ = 0;
    std::jthread thread_;
};

class BadDays {
public:
    BadDays(TestHost &host, std::deque<Soaked> &guests, std::uint64_t seed)
        : host_(host), guests_(guests), random_(seed) {}

    void go_on() {
        constexpr std::array<std::pair<unsigned, void (BadDays::*)()>, 10> kChoices{{{40, &BadDays::use},
                                                                                     {60, &BadDays::reboot},
                                                                                     {75, &BadDays::save},
                                                                                     {85, &BadDays::reload},
                                                                                     {88, &BadDays::restart_daemon},
                                                                                     {91, &BadDays::restart_manager},
                                                                                     {93, &BadDays::upgrade},
                                                                                     {95, &BadDays::full_disk},
                                                                                     {98, &BadDays::little_memory},
                                                                                     {100, &BadDays::few_descriptors}}};
        const auto number = static_cast<unsigned>(random_() % 100);
        log::info("choice {}", number);
        for (const auto &[below, action] : kChoices)
            if (number < below) return (this->*action)();
    }

    int without_memory = 0;  // days

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

    // One guest comes, and waits; another one, whose engine gets none either, notices nothing.
    void little_memory() {
        if (!LittleMemory::kPossible) return use();
        const std::size_t number = random_() % guests_.size();
        Soaked &coming = guests_[number];
        Soaked &staying = guests_[(number + 1) % guests_.size()];
        coming.leave();
        std::vector<pid_t> zygotes;
        for (const auto &[name, engines] : host_.engines->zygotes()) zygotes.push_back(name.zygote);
        std::optional<LittleMemory> short_of_memory(std::in_place, zygotes, staying.engine());
        const auto relief = host_.loop.after(std::chrono::milliseconds(300), [&] {
            CHECK_FALSE(coming.is_connected());
            short_of_memory.reset();
        });
        REQUIRE(relief);
        ++without_memory;
        staying.extend();
        staying.write(true);
        coming.power_on();
        REQUIRE(host_.run_until([&] { return !short_of_memory; }));
        staying.check();
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
    raise_descriptor_limit();
    TestHost host;
    std::deque<Soaked> guests;
    for (std::uint64_t i = 0; i < count; ++i) {
        guests.emplace_back(host, static_cast<std::uint32_t>(10 + i)).power_on();
        guests.back().create_index();
        guests.back().write(true);
    }
    QuietGuest quiet(host);
    std::this_thread::sleep_for(std::chrono::seconds(limit >= kLong ? 30 : 3));
    const double alone = quiet.p99_us();
    const std::size_t descriptors = open_descriptors() - 2 * host.service.store.size();
    const auto memory = [&] {
        std::size_t all = 0;
        const auto zygotes = host.engines->zygotes();  // there is one for each daemon whose engines still run
        for (const auto &[name, engines] : zygotes) all += anonymous_memory(name.zygote);
        return all / zygotes.size();
    };
    std::vector<std::size_t> memories;
    BadDays days(host, guests, seed);
    const auto began = Clock::now();
    std::uint64_t steps = 0;
    for (; Clock::now() - began < limit; ++steps) {
        days.go_on();
        if (Clock::now() - began >= limit * (memories.size() + 1) / 4) memories.push_back(memory());
    }
    const double among_others = quiet.p99_us();
    for (Soaked &guest : guests) {
        guest.check();
        guest.extend();
        guest.write(true);
    }
    int gave_up = 0;
    for (const Soaked &guest : guests) gave_up += guest.gave_up;
    std::cout << steps << " steps with " << count << " guests, " << gave_up << " writes gave up\n";
    std::cout << fmt::format(
        "a quiet guest's PCR_Read, p99: alone {:.0f} us, then {:.0f} us; a zygote's memory, KiB: {}\n", alone,
        among_others, fmt::join(memories, " "));
    std::cout << days.without_memory << " days without memory"
              << (LittleMemory::kPossible ? "\n" : ": a sanitizer does not stand it\n");
    CHECK(static_cast<std::uint64_t>(gave_up) <= 1 + steps / 50);
    CHECK(quiet.failed() == 0);
    CHECK(host.engines->count() == count + 1);
    if (limit >= kLong) {
        CHECK(among_others <= 3 * alone);
        CHECK(memories.back() <= memories.front() + memories.front() / 10);
    }
    CHECK(open_descriptors() - 2 * host.service.store.size() == descriptors);
}

}  // namespace vtpm
