// SPDX-License-Identifier: Apache-2.0
// kill -9 of the manager, the daemon or an engine at random moments of two guests' NV writes. Every acknowledged write
// must be there afterwards, and none may be there by half. The manager, its TPM (swtpm), the engines and the daemon's
// devices are real processes; xenstore and the rings are not. And the same with the power cut, under a file system that
// forgets.
//
//   XEN_VTPM_KILLS=N (100)    XEN_VTPM_POWER_CUTS=N (60)    XEN_VTPM_SEED=N (random, printed)
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <random>
#include <thread>
#include "tests/catch.hpp"

#include "backend/engine/tpm_messages.hpp"
#include "tests/fakes/tpm_commands.hpp"
#include "tests/integration/backend/host.hpp"
#include "tests/integration/crash/forgetful_fs.hpp"
#include "tests/integration/manager/manager_process.hpp"
#include "tests/integration/manager/swtpm.hpp"
#include "tests/integration/process_status.hpp"

namespace vtpm {
namespace {

constexpr std::uint32_t kIndex = 0x01500001;
constexpr std::uint16_t kSize = 512;
constexpr std::size_t kGuests = 2;

// The n-th value of a guest's NV index: the number again and again, so that half a write shows.
Bytes value(std::uint64_t n) {
    Bytes bytes(kSize);
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(n >> (8 * (i % 8)));
    return bytes;
}

// Whether it may still do something: a zombie may not.
bool lives(pid_t pid) {
    const std::map status = process_status(pid);
    const auto state = status.find("State");
    return state != status.end() && state->second.find_first_of("ZX") != 0;
}

// A guest, and what it knows of its writes.
struct Guest {
    DeviceId device;
    Uuid uuid = Uuid::random();
    LoopbackGuest ring{};
    pid_t engine = 0;
    std::uint64_t acknowledged = 0;
    std::uint64_t attempted = 0;
    std::atomic<bool> stop{false};

    // The response, or nothing if the engine is gone.
    std::optional<Bytes> execute(ByteView command) {
        ring.submit(command);
        for (;;) {
            const bool last = !lives(engine);
            Bytes response = ring.response(std::chrono::milliseconds(20));
            if (!response.empty()) return response;
            if (last) return std::nullopt;
        }
    }

    void write_until_stopped() {
        while (!stop) {
            const auto response = execute(commands::nv_write(kIndex, value(++attempted)));
            if (!response) return;  // in flight for ever
            if (return_code(*response) == 0) acknowledged = attempted;
        }
    }

    // Between the last acknowledged write and the last attempted one, and whole.
    void check_stored() {
        stop = false;
        const auto response = execute(commands::nv_read(kIndex, kSize));
        REQUIRE(response);
        REQUIRE(return_code(*response) == 0);
        const Bytes data = commands::nv_data(*response);
        REQUIRE(data.size() == kSize);
        std::uint64_t n = 0;
        for (std::size_t i = 8; i > 0; --i) n = n << 8 | data[i - 1];
        CAPTURE(n, acknowledged, attempted);
        REQUIRE(data == value(n));
        REQUIRE(n >= acknowledged);
        REQUIRE(n <= attempted);
        acknowledged = n;
    }
};
using Guests = std::array<Guest, kGuests>;

// ---- the daemon: a process that can be killed ----

void report(int socket, const std::string &text) {
    (void)send_message(socket, ByteView(reinterpret_cast<const std::uint8_t *>(text.data()), text.size()));
}

// Attaches all guests and reports the engines' pids; each message that comes is an order to do that again.
[[noreturn]] void be_daemon(const std::string &manager_socket, Guests &guests, int socket) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    Host host(manager_socket);
    if (!host.start()) ::_exit(1);
    for (;;) {
        std::string pids;
        for (Guest &guest : guests) {
            if (!host.comes_up(guest.device, guest.uuid, guest.ring)) {
                report(socket, "failed: " + host.reason(guest.device));
                ::_exit(1);
            }
            // The zygote may say it after the engine has served.
            const auto pid = [&] { return host.backend->devices().at(guest.device)->engine_pid(); };
            (void)host.run_until([&] { return pid() > 1; });
            pids += std::to_string(pid()) + " ";
        }
        report(socket, pids);
        bool ordered = false;
        const auto order = host.loop.on_readable(socket, [&] {
            std::array<std::uint8_t, 8> buffer{};
            const auto received = receive_message(socket, buffer);
            if (!received || received->size == 0) ::_exit(0);
            ordered = true;
        });
        while (!ordered) host.run_for(std::chrono::milliseconds(20));
        for (Guest &guest : guests) {
            host.detach(guest.device);
            if (!host.reaches(guest.device, "6")) report(socket, "failed: cannot be detached");
            host.remove(guest.device);
        }
        host.run_for(std::chrono::milliseconds(20));
    }
}

class Daemon {
public:
    Daemon(const std::string &manager_socket, Guests &guests) : guests_(guests) {
        SocketPair ends = expect(make_seqpacket_pair());
        socket_ = std::move(ends.ours);
        pid_ = ::fork();
        REQUIRE(pid_ >= 0);
        if (pid_ == 0) {
            socket_.reset();
            be_daemon(manager_socket, guests, ends.theirs.get());
        }
        ends.theirs.reset();
        wait_until_up();
    }
    ~Daemon() { kill(); }
    Daemon(const Daemon &) = delete;
    Daemon &operator=(const Daemon &) = delete;

    void kill() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }
    void power_cycle_guests() {
        report(socket_.get(), "again");
        wait_until_up();
    }
    [[nodiscard]] bool alive() const { return pid_ > 0; }

private:
    void wait_until_up() {
        std::array<std::uint8_t, 512> buffer{};
        expect(wait_readable(socket_.get(), std::chrono::seconds(60)));
        const auto received = expect(receive_message(socket_.get(), buffer));
        const std::string text(buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(received.size));
        CAPTURE(text);
        const char *next = text.data();
        for (Guest &guest : guests_) {
            const auto parsed = std::from_chars(next, text.data() + text.size(), guest.engine);
            REQUIRE(parsed.ec == std::errc());
            REQUIRE(guest.engine > 1);
            next = parsed.ptr + 1;
        }
    }

    Guests &guests_;
    UniqueFd socket_;
    pid_t pid_ = -1;
};

// ---- the test ----

unsigned from_environment(const char *name, unsigned otherwise) {
    const char *text = std::getenv(name);
    return text == nullptr ? otherwise : static_cast<unsigned>(std::strtoul(text, nullptr, 10));
}

class Machine {
public:
    // Its store lies on a file system that forgets, if there is a `forgetful_seed`.
    explicit Machine(std::optional<unsigned> forgetful_seed = std::nullopt) {
        if (forgetful_seed) disk_.emplace(place_.state_directory(), *forgetful_seed);
        manager_.emplace(place_);
        daemon_ = std::make_unique<Daemon>(place_.socket(), guests);
        for (Guest &guest : guests) {
            REQUIRE(return_code(guest.execute(commands::nv_define(kIndex, kSize)).value()) == 0);
            REQUIRE(return_code(guest.execute(commands::nv_write(kIndex, value(0))).value()) == 0);
        }
    }

    void kill_manager() {
        manager_->end(SIGKILL);
        manager_.reset();
    }
    void kill_daemon() { daemon_->kill(); }
    void kill_engine(std::size_t guest) { ::kill(guests.at(guest).engine, SIGKILL); }
    void kill_all() {
        if (manager_) kill_manager();
        for (std::size_t guest = 0; guest < kGuests; ++guest) kill_engine(guest);
        kill_daemon();
    }

    // The hardware TPM keeps what it has: its memory is its own.
    void cut_power() {
        disk_->cut_power();
        kill_all();
    }
    // It forgets what was loaded.
    void power_cycle_tpm() {
        tpm_.reset();
        tpm_.emplace(directory_ / "hardware-tpm");
    }

    // False: it is not told that it is done.
    [[nodiscard]] bool rekey() const { return cli(place_.bus_address, {"group", "rekey", "default"}).status == 0; }
    // Beside those of the guests, vTPMs that do not run: a rekey stages them, in several steps.
    void add_vtpms(std::size_t count) {
        BackendEnd backend(place_.socket());
        while (others_.size() < count) {
            EngineEnd engine = backend.open(others_.emplace_back(Uuid::random()));
            engine.store(state_of(others_.size() - 1));
            REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
        }
    }
    void check_vtpms() const {
        BackendEnd backend(place_.socket());
        for (std::size_t i = 0; i < others_.size(); ++i) {
            EngineEnd engine = backend.open(others_[i]);
            engine.load();
            const auto loaded = engine.receive<LoadedState>();
            CAPTURE(i, loaded.text);
            REQUIRE(loaded.code == ErrorCode::kNone);
            REQUIRE(std::ranges::equal(loaded.state, state_of(i)));
        }
    }
    // How often the group got another key.
    [[nodiscard]] unsigned rekeys() const {
        const std::string log = cli(place_.bus_address, {"audit"}).out;
        unsigned count = 0;
        for (auto at = log.find("group-rekeyed"); at != std::string::npos; at = log.find("group-rekeyed", at + 1))
            ++count;
        return count;
    }

    // What is left of it goes on, then every guest is power cycled.
    void recover() {
        const bool engines_live_on = !manager_ && daemon_->alive();
        if (!manager_) manager_.emplace(place_);
        if (engines_live_on)
            for (Guest &guest : guests) guest.check_stored();
        if (daemon_->alive())
            daemon_->power_cycle_guests();
        else
            daemon_ = std::make_unique<Daemon>(place_.socket(), guests);
        for (Guest &guest : guests) guest.check_stored();
    }

    Guests guests{Guest{.device = {7, 0}}, Guest{.device = {8, 0}}};

private:
    static Bytes state_of(std::size_t vtpm) { return Bytes(6000, static_cast<std::uint8_t>(vtpm)); }

    std::vector<Uuid> others_;
    TemporaryDirectory directory_;
    std::optional<Swtpm> tpm_{std::in_place, directory_ / "hardware-tpm"};
    PrivateBus bus_{directory_ / "bus"};
    ManagerPlace place_{.directory = directory_, .tcti = tpm_->tcti(), .bus_address = bus_.address()};
    std::optional<ForgetfulFs> disk_;
    std::optional<ManagerProcess> manager_;
    std::unique_ptr<Daemon> daemon_;
};

class Random {
public:
    const unsigned seed = from_environment("XEN_VTPM_SEED", std::random_device{}());
    unsigned below(unsigned limit) { return std::uniform_int_distribution<unsigned>(0, limit - 1)(random_); }

private:
    std::mt19937 random_{seed};
};

unsigned power_cuts() { return from_environment("XEN_VTPM_POWER_CUTS", 60); }

// Both guests write; `disturb` is called in the middle of it. How many writes were in flight then.
unsigned write_until(Guests &guests, const std::function<void()> &disturb) {
    {
        std::array<std::jthread, kGuests> writers;
        for (std::size_t i = 0; i < kGuests; ++i)
            writers.at(i) = std::jthread([&guest = guests.at(i)] { guest.write_until_stopped(); });
        disturb();
        for (Guest &guest : guests) guest.stop = true;
    }
    unsigned in_flight = 0;
    for (Guest &guest : guests) {
        in_flight += guest.acknowledged < guest.attempted ? 1 : 0;
        guest.ring.write_header(0, TPMIF_STATE_IDLE);
    }
    return in_flight;
}

std::uint64_t writes_of(const Guests &guests) {
    std::uint64_t writes = 0;
    for (const Guest &guest : guests) writes += guest.attempted;
    return writes;
}

}  // namespace

TEST_CASE("whatever is killed during NV writes, what was acknowledged is there, and whole") {
    const unsigned kills = from_environment("XEN_VTPM_KILLS", 100);
    Random random;
    CAPTURE(random.seed);
    Machine machine;
    std::array<unsigned, 3> killed{};
    unsigned everything = 0;
    unsigned in_flight = 0;

    for (unsigned kill = 0; kill < kills; ++kill) {
        CAPTURE(kill);
        in_flight += write_until(machine.guests, [&] {
            std::this_thread::sleep_for(std::chrono::microseconds(random.below(30'000)));
            const unsigned victim = random.below(3);
            if (victim == 0) machine.kill_manager();
            if (victim == 1) machine.kill_daemon();
            if (victim == 2) machine.kill_engine(random.below(kGuests));
            ++killed.at(victim);
            // Otherwise the others see it happen, and clean up: an engine stores once more when it is told to stop.
            if (random.below(2) == 0) {
                machine.kill_all();
                ++everything;
            }
        });
        machine.recover();
    }
    fmt::print(
        "killed {} times: manager {}, daemon {}, an engine {} (everything at once {}); of {} NV writes {} were "
        "unacknowledged then; seed {}\n",
        kills, killed[0], killed[1], killed[2], everything, writes_of(machine.guests), in_flight, random.seed);
    CHECK(in_flight > 0);
}

TEST_CASE("whenever the power is cut, what was acknowledged is there, and whole") {
    const unsigned cuts = power_cuts();
    Random random;
    CAPTURE(random.seed);
    Machine machine(random.seed);
    unsigned in_flight = 0;
    for (unsigned cut = 0; cut < cuts; ++cut) {
        CAPTURE(cut);
        in_flight += write_until(machine.guests, [&] {
            std::this_thread::sleep_for(std::chrono::microseconds(random.below(30'000)));
            machine.cut_power();
        });
        machine.recover();
    }
    fmt::print("power cut {} times; of {} NV writes {} were unacknowledged then; seed {}\n", cuts,
               writes_of(machine.guests), in_flight, random.seed);
    CHECK(in_flight > 0);
}

TEST_CASE("whenever the power is cut while a group gets another key, what was acknowledged is there, and whole") {
    const unsigned cuts = power_cuts() / 3;
    Random random;
    CAPTURE(random.seed);
    Machine machine(random.seed);
    machine.add_vtpms(100);
    const auto began = std::chrono::steady_clock::now();
    REQUIRE(machine.rekey());
    const auto took = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - began);
    unsigned told = 1;
    for (unsigned cut = 0; cut < cuts; ++cut) {
        CAPTURE(cut);
        write_until(machine.guests, [&] {
            const std::jthread rekeys([&] { told += machine.rekey() ? 1 : 0; });
            std::this_thread::sleep_for(took * random.below(2500) / 1000);
            machine.cut_power();
        });
        machine.power_cycle_tpm();
        machine.recover();
        machine.check_vtpms();
        REQUIRE(machine.rekeys() >= told);
    }
    fmt::print("power cut {} times in a rekey, which {} times was told to be done, and {} times was; seed {}\n", cuts,
               told, machine.rekeys(), random.seed);
}

TEST_CASE("a manager whose first start the power ends can be started, and finds what it began") {
    Random random;
    CAPTURE(random.seed);
    for (unsigned cut = 0; cut < power_cuts() / 3; ++cut) {
        CAPTURE(cut);
        const TemporaryDirectory directory;
        const Swtpm tpm(directory / "hardware-tpm");
        const ManagerPlace place{.directory = directory, .tcti = tpm.tcti()};
        ForgetfulFs disk(place.state_directory(), random.seed + cut);
        Process first(place.launch());
        std::this_thread::sleep_for(std::chrono::microseconds(random.below(200'000)));
        disk.cut_power();
        first.end(SIGKILL);
        ManagerProcess second(place);
    }
}

}  // namespace vtpm
