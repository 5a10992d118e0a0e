// SPDX-License-Identifier: Apache-2.0
// How long a new TPM 2.0 takes: from the order to attach a vTPM that nobody knows, to its being connected; with and
// without endorsement certificates. Beside it swtpm_setup, which makes a TPM's state and no more. In turns, so that
// what else the machine does meets all alike. The hardware TPM is a swtpm.
//
//   TURNS=N create      prints JSON in a line: the times in seconds, in the order of the turns
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include "tests/catch.hpp"

#include "tests/bench/figures.hpp"
#include "tests/integration/backend/host.hpp"
#include "tests/integration/manager/manager_process.hpp"
#include "tests/integration/manager/swtpm.hpp"

namespace vtpm {
namespace {

class Ours {
public:
    explicit Ours(const std::string &config) {
        place_.more_config = config;
        manager_.emplace(place_);
        expect(host_.start());
        (void)create();  // the group's CA is made with its first vTPM
    }
    // Until it is connected; in seconds.
    double create() {
        LoopbackGuest ring{};
        const DeviceId device{next_++, 0};
        const double time = seconds([&] {
            if (!host_.comes_up(device, Uuid::random(), ring)) throw std::runtime_error(host_.reason(device));
        });
        host_.detach(device);
        (void)host_.reaches(device, "6");
        host_.remove(device);
        host_.run_for(std::chrono::milliseconds(1));
        return time;
    }

private:
    TemporaryDirectory directory_;
    Swtpm tpm_{directory_ / "hardware-tpm"};
    ManagerPlace place_{directory_, tpm_.tcti(), "unix:path=/nonexistent", {}};
    std::optional<ManagerProcess> manager_;
    Host host_{place_.socket()};
    std::uint16_t next_ = 1;
};

void swtpm_setup(bool certificates) {
    const TemporaryDirectory directory;
    std::vector<std::string> command{"swtpm_setup", "--tpm2", "--tpmstate", directory / ""};
    if (certificates) command.emplace_back("--create-ek-cert");
    const Output output = run({command, {}, {}});
    if (output.status != 0) throw std::runtime_error("swtpm_setup: " + output.out + output.err);
}

}  // namespace
}  // namespace vtpm

TEST_CASE("create") {
    using namespace vtpm;
    const char *const turns = std::getenv("TURNS");
    Ours certified("");
    Ours plain("ek_certificates = false\n");
    nlohmann::json times;
    for (int turn = turns == nullptr ? 20 : std::stoi(turns); turn > 0; --turn) {
        times["ours, certified"].push_back(certified.create());
        times["swtpm_setup, certified"].push_back(seconds([] { swtpm_setup(true); }));
        times["ours, plain"].push_back(plain.create());
        times["swtpm_setup, plain"].push_back(seconds([] { swtpm_setup(false); }));
    }
    std::printf("\n%s\n", times.dump().c_str());
}
