// SPDX-License-Identifier: Apache-2.0
// The manager on a hardware TPM that is as slow as chips are (slow_chip.hpp): how long it takes to start with ten
// groups, to make vTPMs, one and many at once, and to power many on that show the host's PCRs; and what dom0's own use
// of the TPM finds beside guests that ask for attestations without a pause.
//
//   CHIP_VTPMS=N chip      prints JSON in a line: figure -> seconds, or a number
#include <sys/socket.h>
#include "tests/catch.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <thread>

#include "shared-protocol/attest_command.hpp"
#include "shared-protocol/tpm_message.hpp"
#include "tests/integration/backend/host.hpp"
#include "tests/integration/manager/manager_process.hpp"
#include "tests/integration/manager/slow_chip.hpp"
#include "tests/integration/manager/swtpm.hpp"
#include "tests/integration/manager/unix_stream.hpp"

namespace vtpm {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point began) { return std::chrono::duration<double>(Clock::now() - began).count(); }

std::size_t count_of_vtpms() {
    const char *const count = std::getenv("CHIP_VTPMS");
    return count == nullptr ? 100 : std::stoul(count);
}

struct Machine {
    explicit Machine(std::string config = {}) {
        place.more_config = std::move(config);
        proxy.set(chip.fates());
        restart();
    }
    void restart() {
        if (manager) manager->end(SIGTERM);
        manager.emplace(place);
        (void)manager->wait_for_status("ready");
    }

    TemporaryDirectory directory;
    Swtpm tpm{directory / "hardware-tpm"};
    TpmProxy proxy{directory / "hardware-tpm/tpm", directory / "chip"};
    SlowChip chip;
    PrivateBus bus{directory / "bus"};
    ManagerPlace place{directory, proxy.tcti(), bus.address(), {}};
    std::optional<ManagerProcess> manager;
};

// dom0's own use of the TPM, as IMA's: an extend every tenth of a second, and how long each took, in milliseconds.
class OtherUse {
public:
    explicit OtherUse(const std::string &path) : socket_(unix_stream::connect_to(path)) {
        if (!socket_) throw std::runtime_error("connect " + path);
        thread_ = std::thread([this] { run(); });
    }
    std::vector<double> end() {
        ending_ = true;
        thread_.join();
        std::ranges::sort(times_);
        return times_;
    }

private:
    void run() {
        const Bytes command = extend(16);
        while (!ending_) {
            const auto began = Clock::now();
            (void)!::send(socket_.get(), command.data(), command.size(), MSG_NOSIGNAL);
            std::uint8_t buffer[4096];
            if (::recv(socket_.get(), buffer, sizeof buffer, 0) <= 0) return;
            times_.push_back(1000 * since(began));
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
        }
    }
    UniqueFd socket_;
    std::atomic<bool> ending_ = false;
    std::vector<double> times_;
    std::thread thread_;
};

double mean(const std::vector<double> &times) {
    return std::accumulate(times.begin(), times.end(), 0.0) / static_cast<double>(times.size());
}

// TPM2_CC_VENDOR: an attestation from its beginning.
Bytes attest_command(std::uint8_t nonce) {
    return tpm_message(kTpmNoSessions, kAttestCommand, BigEndian().sized(Bytes(16, nonce)).u32(0).bytes());
}

// Guests that are started at the same moment, until the last one is connected. How many were not, and why.
struct Together {
    explicit Together(Machine &machine, std::size_t count) : host(machine.place.socket()), guests(count) {
        expect(host.start());
        for (Guest &guest : guests) guest.uuid = Uuid::random();
    }
    double start() {
        const auto began = Clock::now();
        for (std::size_t i = 0; i < guests.size(); ++i) {
            host.rings.guests[id(i).domain] = &guests[i].ring;
            host.attach(id(i), guests[i].uuid);
        }
        (void)host.run_until([&] { return all_have("2"); }, std::chrono::minutes(10));
        for (std::size_t i = 0; i < guests.size(); ++i) host.frontend_initialised(id(i));
        (void)host.run_until([&] { return all_have("4"); }, std::chrono::minutes(10));
        return since(began);
    }
    // Each asks for an attestation, again and again, with a new nonce whenever it got one. How many were given.
    std::size_t attest_for(std::chrono::seconds time) {
        std::size_t given = 0;
        std::vector<std::uint8_t> nonces(guests.size(), 1);
        for (const auto began = Clock::now(); Clock::now() - began < time;) {
            for (std::size_t i = 0; i < guests.size(); ++i) {
                const Bytes response = guests[i].ring.execute(attest_command(nonces[i]));
                if (response.size() < TPM_MESSAGE_HEADER_SIZE || tpm_code(response) != TPM2_RC_SUCCESS) continue;
                ++given;
                ++nonces[i];
            }
            host.run_for(std::chrono::milliseconds(20));
        }
        return given;
    }
    void stop() {
        for (std::size_t i = 0; i < guests.size(); ++i) host.detach(id(i));
        (void)host.run_until([&] { return all_have("6"); }, std::chrono::minutes(2));
        for (std::size_t i = 0; i < guests.size(); ++i) host.remove(id(i));
        host.run_for(std::chrono::milliseconds(200));
    }
    std::size_t failed() {
        std::size_t count = 0;
        for (std::size_t i = 0; i < guests.size(); ++i) {
            if (host.own_state(id(i)) == "4") continue;
            std::fprintf(stderr, "%s\n", host.reason(id(i)).c_str());
            ++count;
        }
        return count;
    }

private:
    struct Guest {
        Uuid uuid{};
        LoopbackGuest ring{};
    };
    static DeviceId id(std::size_t i) { return {static_cast<std::uint16_t>(i + 1), 0}; }
    bool all_have(const std::string &state) {
        std::size_t count = 0;
        for (std::size_t i = 0; i < guests.size(); ++i) {
            const std::string own = host.own_state(id(i));
            count += own == state || own == "4" || own == "6";
        }
        return count == guests.size();
    }
    Host host;
    std::vector<Guest> guests;
};

double ten_groups() {
    Machine machine;
    for (int i = 1; i < 8; ++i)  // with the default one: as many counters as such a chip may have
    {
        const Output created =
            cli(machine.bus.address(), {"group", "create", "tenant" + std::to_string(i), "--tpm-only"});
        INFO(created.err);
        REQUIRE(created.status == 0);
    }
    machine.manager->end(SIGTERM);
    const auto began = Clock::now();
    machine.manager.emplace(machine.place);
    (void)machine.manager->wait_for_status("ready");
    return since(began);
}

}  // namespace
}  // namespace vtpm

TEST_CASE("chip") {
    using namespace vtpm;
    const std::size_t count = count_of_vtpms();
    nlohmann::json figures;
    figures["start, 8 groups"] = ten_groups();
    {
        Machine machine;
        Together first(machine, 1);
        figures["first vTPM"] = first.start();
        Together one(machine, 1);
        const auto busy = machine.chip.busy();
        figures["one new vTPM"] = one.start();
        figures["one new vTPM: TPM busy"] = std::chrono::duration<double>(machine.chip.busy() - busy).count();
        Together many(machine, count);
        figures["new vTPMs at once"] = many.start();
        figures["new vTPMs at once: failed"] = many.failed();
    }
    {
        Machine machine;
        Together guests(machine, 10);
        (void)guests.start();
        const std::string chip = machine.directory / "chip";
        OtherUse quiet(chip);
        std::this_thread::sleep_for(std::chrono::seconds(10));
        const auto alone = quiet.end();
        OtherUse beside(chip);
        const auto busy = machine.chip.busy();
        const std::size_t given = guests.attest_for(std::chrono::seconds(40));
        const auto meanwhile = beside.end();
        figures["attestations in 40 s"] = given;
        figures["attestations: share of the TPM's time"] =
            std::chrono::duration<double>(machine.chip.busy() - busy).count() / 40;
        figures["dom0's extend, ms: alone, mean"] = mean(alone);
        figures["dom0's extend, ms: beside attestations, mean"] = mean(meanwhile);
        figures["dom0's extend, ms: beside attestations, median"] = meanwhile[meanwhile.size() / 2];
        figures["dom0's extend, ms: beside attestations, longest"] = meanwhile.back();
    }
    {
        Machine machine("host_pcrs = \"0-7\"\n");
        Together many(machine, count);
        (void)many.start();
        many.stop();
        const auto busy = machine.chip.busy();
        (void)machine.chip.take_count(TPM2_CC_PCR_Read);
        figures["power-ons with host_pcrs"] = many.start();
        figures["power-ons with host_pcrs: failed"] = many.failed();
        figures["power-ons with host_pcrs: TPM busy"] =
            std::chrono::duration<double>(machine.chip.busy() - busy).count();
        figures["power-ons with host_pcrs: PCR reads"] = machine.chip.take_count(TPM2_CC_PCR_Read);
    }
    std::printf("\n%s\n", figures.dump().c_str());
}
