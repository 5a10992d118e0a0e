// SPDX-License-Identifier: Apache-2.0
// How long a new TPM 2.0 takes: from the order to attach a vTPM that nobody knows, to its being connected; with and
// without endorsement certificates. Beside it swtpm_setup, which makes a TPM's state and no more. In turns, so that
// what else the machine does meets all alike. The hardware TPM is a swtpm.
//
// And what a measured launch adds to a power-on: the manager's work on its record, and the TPM's, which extends.
//
//   TURNS=N create      prints JSON in a line: the times in seconds, in the order of the turns
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include "tests/catch.hpp"

#include "backend/engine/libtpms.hpp"
#include "backend/engine/tpm_messages.hpp"
#include "manager/vtpm/power_on.hpp"
#include "shared-protocol/event_log_command.hpp"
#include "shared-protocol/tpm_message.hpp"
#include "tests/integration/backend/host.hpp"
#include "tests/integration/manager/manager_process.hpp"
#include "tests/integration/manager/swtpm.hpp"
#include "tests/unit/manager/launched.hpp"
#include "tests/unit/manager/openssl_keys.hpp"

namespace vtpm {
namespace {

double seconds(const std::function<void()> &work) {
    const auto began = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

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

// Of a kernel with an initrd, in all banks; four launches are approved, and this is the last of them.
class Launch {
public:
    Launch() {
        vtpm_.uuid = Uuid::random();
        vtpm_.group = "tenant";
        vtpm_.profile.pcr_banks = expect(PcrBanks::parse("sha256,sha384"));
        vtpm_.launch = LaunchPolicy::kRequireApproved;
        const EvpKey key = ec_key();
        vtpm_.launch_approver = expect(ApproverKey::from_pem(public_pem(key.get()))).public_area();
        LaunchTerms terms{"tenant", 1, {}, {}};
        for (const char *line : {"1", "2", "3", "root=/dev/xvda1 ro quiet"})
            terms.launches.push_back(approved(line, line));
        const std::string pem = private_pem(key.get());
        approvals_.push_back(expect(LaunchApproval::sign(view(pem), std::move(terms))));
        tpm_.may_manufacture = true;
        expect(tpm_.start());
        (void)tpm_.process(start_up_command(TpmVersion::k20));
    }
    // In seconds.
    double manager() {
        return seconds([&] {
            (void)expect(approved_launch(vtpm_, record_, 1, approvals_));
            commands_ = expect(power_on_events(vtpm_, {}, record_)).commands;
        });
    }
    double tpm() {
        return seconds([&] {
            for (ByteView rest = commands_; !rest.empty(); rest = rest.subspan(tpm_size(rest))) {
                const ByteView command = rest.first(tpm_size(rest));
                if (tpm_code(command) != kGiveEventLog) require(return_code(tpm_.process(command)) == 0, "it extends");
            }
        });
    }

private:
    VtpmRecord vtpm_;
    Bytes record_ = launch_log("root=/dev/xvda1 ro quiet");
    std::vector<LaunchApproval> approvals_;
    Bytes commands_;
    Libtpms tpm_{TpmVersion::k20};
};

}  // namespace
}  // namespace vtpm

TEST_CASE("create") {
    using namespace vtpm;
    const char *const turns = std::getenv("TURNS");
    Ours certified("");
    Ours plain("ek_certificates = false\n");
    Launch launch;
    nlohmann::json times;
    for (int turn = turns == nullptr ? 20 : std::stoi(turns); turn > 0; --turn) {
        times["ours, certified"].push_back(certified.create());
        times["swtpm_setup, certified"].push_back(seconds([] { swtpm_setup(true); }));
        times["ours, plain"].push_back(plain.create());
        times["swtpm_setup, plain"].push_back(seconds([] { swtpm_setup(false); }));
        times["launch, manager"].push_back(launch.manager());
        times["launch, TPM"].push_back(launch.tpm());
    }
    std::printf("\n%s\n", times.dump().c_str());
}
