// SPDX-License-Identifier: Apache-2.0
// How long a TPM's command takes, and how many there are in a second.
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <csignal>
#include <functional>

#include "backend/engine/tpm.hpp"
#include "tests/bench/pool.hpp"

extern "C" {
#include <libtpms/tpm_error.h>
#include <libtpms/tpm_library.h>
}

namespace vtpm {
namespace {

// What a round trip costs without a TPM, and without a page: a process that waits and rings as an engine does.
class PingPong {
public:
    PingPong() : echo_(::fork()) {
        if (echo_ < 0) throw std::runtime_error("fork");
        if (echo_ > 0) return;
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) answer(there_.get(), back_.get());
    }
    ~PingPong() {
        ::kill(echo_, SIGKILL);
        (void)::waitpid(echo_, nullptr, 0);
    }
    PingPong(const PingPong &) = delete;
    PingPong &operator=(const PingPong &) = delete;

    [[nodiscard]] pid_t pid() const { return echo_; }
    [[nodiscard]] int fd() const { return back_.get(); }
    void ring() const { (void)::eventfd_write(there_.get(), 1); }
    void round_trip() const {
        ring();
        wait(back_.get());
    }

private:
    // The engine's two sources: its ring, and its control socket, on which nothing comes.
    void wait(int bell) const {
        pollfd waiting[2] = {{silent_.get(), POLLIN, 0}, {bell, POLLIN, 0}};
        (void)::poll(waiting, 2, -1);
        eventfd_t count = 0;
        (void)::eventfd_read(bell, &count);
    }
    void answer(int bell, int other) const {
        wait(bell);
        (void)::eventfd_write(other, 1);
    }

    UniqueFd silent_{::eventfd(0, EFD_CLOEXEC)};
    UniqueFd there_{::eventfd(0, EFD_CLOEXEC)};
    UniqueFd back_{::eventfd(0, EFD_CLOEXEC)};
    pid_t echo_;
};

void submit(PingPong &echo, ByteView) { echo.ring(); }
Bytes take(PingPong &echo) {
    eventfd_t count = 0;
    (void)::eventfd_read(echo.fd(), &count);
    return tpm_message(kTpmNoSessions, 0);
}

// libtpms in this process, started as an engine starts it.
class DirectTpm {
public:
    explicit DirectTpm(const std::string &manager_socket) {
        BackendEnd daemon(manager_socket);
        const EngineEnd channel = daemon.open(Uuid::random());
        tpm_ = expect(Tpm::power_on(TpmVersion::k20, ManagerChannel(UniqueFd(::dup(channel.fd())))));
    }
    ~DirectTpm() { std::free(response_); }
    DirectTpm(const DirectTpm &) = delete;
    DirectTpm &operator=(const DirectTpm &) = delete;

    ByteView execute(Bytes &command) {
        std::uint32_t size = 0;
        if (TPMLIB_Process(&response_, &size, &capacity_, command.data(), static_cast<std::uint32_t>(command.size())) !=
            TPM_SUCCESS)
            throw std::runtime_error("TPMLIB_Process");
        return {response_, size};
    }

private:
    std::unique_ptr<Tpm> tpm_;
    std::uint8_t *response_ = nullptr;  // libtpms' own, used again for each command
    std::uint32_t capacity_ = 0;
};

const std::vector<std::size_t> kBoth{0, 1};

// The median in microseconds, after a tenth that is not counted.
double median_us(std::size_t rounds, const std::function<void()> &round) {
    for (std::size_t i = 0; i < rounds / 10; ++i) round();
    std::vector<double> took;
    took.reserve(rounds);
    for (std::size_t i = 0; i < rounds; ++i) {
        const auto began = Clock::now();
        round();
        took.push_back(seconds_since(began) * 1e6);
    }
    const auto middle = took.begin() + static_cast<std::ptrdiff_t>(rounds / 2);
    std::ranges::nth_element(took, middle);
    return *middle;
}

}  // namespace
}  // namespace vtpm

using namespace vtpm;

TEST_CASE("round trip") {
    const std::size_t rounds = size_of("ROUNDS", 2000);
    PingPong ping_pong;
    OurVtpms ours;
    ours.attach(1);
    DirectTpm direct(ours.manager_socket());
    Swtpms swtpms(1);
    swtpms.start();
    std::map<std::string, Bytes> commands{{"PCR_Read", commands::pcr_read(10)},
                                          {"PCR_Extend", commands::pcr_extend(10, 1)},
                                          {"GetRandom(16)", commands::get_random()}};
    nlohmann::json figures;
    const auto take_turns = [&](const std::string &where) {
        for (auto &[name, command] : commands) {
            nlohmann::json &row = figures[where][name];
            row["ours"].push_back(median_us(rounds, [&] { require_success(ours.guest().execute(command)); }));
            row["ping-pong"].push_back(median_us(rounds, [&] { ping_pong.round_trip(); }));
            row["direct"].push_back(median_us(rounds, [&] { require_success(direct.execute(command)); }));
            row["swtpm"].push_back(
                median_us(rounds, [&] { require_success(swtpms.clients().front().execute(command)); }));
        }
    };
    run_on({0}, {::getpid()});
    for (std::size_t turn = size_of("TURNS", 10); turn > 0; --turn) {
        for (const std::size_t core : {0U, 1U}) {
            run_on({core}, {ours.engines().at(0), ping_pong.pid(), swtpms.pids().at(0)});
            take_turns(core == 0 ? "one core" : "two cores");
        }
    }
    print({{"microseconds", figures}});
}

TEST_CASE("throughput") {
    const std::chrono::milliseconds time(size_of("MILLISECONDS", 1000));
    const std::vector<std::size_t> sizes{1, 8, 100};
    const std::vector<Bytes> commands{commands::pcr_read(10)};
    std::deque<PingPong> echoes(sizes.back());
    OurVtpms ours;
    ours.create(sizes.back());
    Swtpms swtpms(sizes.back());
    swtpms.start();
    const std::vector<pid_t> first{ours.engines().at(0), swtpms.pids().at(0), echoes.at(0).pid()};
    nlohmann::json figures;
    for (std::size_t turn = size_of("TURNS", 3); turn > 0; --turn) {
        for (const std::size_t size : sizes) {
            // More of them find their places.
            run_on(size == 1 ? std::vector<std::size_t>{0} : kBoth, {::getpid()});
            run_on(size == 1 ? std::vector<std::size_t>{1} : kBoth, first);
            nlohmann::json &row = figures[std::to_string(size)];
            row["ours"].push_back(throughput(ours.guests(), size, commands, time));
            row["swtpm"].push_back(throughput(swtpms.clients(), size, commands, time));
            row["ping-pong"].push_back(throughput(echoes, size, commands, time));
        }
    }
    print({{"commands per second", figures}});
}
