// SPDX-License-Identifier: Apache-2.0
// What a measured launch adds to a power-on: the manager's work on its record, once by the setting and once by
// approvals, as many and as long as may be; and the TPM's, which extends.
//
//   TURNS=N power-on    prints JSON in a line: the times in seconds, in the order of the turns
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>
#include "tests/catch.hpp"

#include "backend/engine/libtpms.hpp"
#include "backend/engine/tpm_messages.hpp"
#include "shared-protocol/event_log_command.hpp"
#include "shared-protocol/tpm_message.hpp"
#include "tests/bench/figures.hpp"
#include "tests/unit/manager/launched.hpp"
#include "tests/unit/manager/manager_in_process.hpp"
#include "tests/unit/manager/openssl_keys.hpp"
#include "tests/unit/manager/temporary_directory.hpp"

namespace vtpm {
namespace {

// Of a kernel with an initrd, in all banks.
class LaunchCost {
public:
    LaunchCost() {
        expect(manager_.keys.unlock());
        expect(manager_.keys.create({"tenant", {}, expect(ApproverKey::from_pem(public_pem(p256()))), 1}));
        measured_ = expect(manager_.vtpms.create(std::nullopt, std::nullopt, "default", {}, LaunchPolicy::kRequire));
        approved_ =
            expect(manager_.vtpms.create(std::nullopt, std::nullopt, "tenant", {}, LaunchPolicy::kRequireApproved));
        off_ = expect(manager_.vtpms.create(std::nullopt, std::nullopt, "default", {}, LaunchPolicy::kOff));
        for (std::size_t i = 0; i < LaunchApprovals::kMost; ++i)
            documents_.push_back(expect(LaunchApproval::sign(view(private_pem(p256())), terms(i))).to_json());
        for (const std::string &document : documents_) expect(manager_.approvals.install(document));
        tpm_.may_manufacture = true;
        expect(tpm_.start());
        (void)tpm_.process(start_up_command(TpmVersion::k20));
        commands_ = expect(power_on_events(expect(manager_.vtpms.show(measured_)).record, {}, record_)).commands;
    }
    // What the manager does of it, in seconds: when the device comes, and again at the power-on.
    double off() { return admitted(off_); }
    double measured() {
        return admitted(measured_) + seconds([&] {
                   (void)expect(power_on_events(expect(manager_.vtpms.show(measured_)).record, {}, record_));
               });
    }
    double approved() { return admitted(approved_); }
    // Each time that they are others.
    double read_approvals() {
        const ApproverKey approver = expect(ApproverKey::from_pem(public_pem(p256())));
        return seconds([&] {
            for (const std::string &document : documents_)
                expect(expect(LaunchApproval::parse(document)).verify(approver));
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
    // The launch that is measured is the last of all.
    static LaunchTerms terms(std::size_t number) {
        LaunchTerms terms{"tenant", 1, {}, {}};
        for (std::size_t i = 0; i < LaunchApproval::kMaxLaunches; ++i) {
            const std::string line = fmt::format("root=/dev/xvda1 ro {}", number * LaunchApproval::kMaxLaunches + i);
            terms.launches.push_back(::approved(line, line));
        }
        return terms;
    }
    double admitted(const Uuid &uuid) {
        return seconds([&] { (void)expect(manager_.vtpms.prepare(uuid, Beginning::kPowerOn, record_)); });
    }

    TemporaryDirectory directory_;
    FakeTpm chip_;
    ManagerInProcess manager_{directory_.path(), chip_};
    std::vector<std::string> documents_;
    Uuid off_;
    Uuid measured_;
    Uuid approved_;
    Bytes record_ =
        launch_log(fmt::format("root=/dev/xvda1 ro {}", LaunchApprovals::kMost *LaunchApproval::kMaxLaunches - 1));
    Bytes commands_;
    Libtpms tpm_{TpmVersion::k20};
};

}  // namespace
}  // namespace vtpm

TEST_CASE("power-on") {
    using namespace vtpm;
    const char *const turns = std::getenv("TURNS");
    LaunchCost launch;
    nlohmann::json times;
    for (int turn = turns == nullptr ? 100 : std::stoi(turns); turn > 0; --turn) {
        times["off"].push_back(launch.off());
        times["measured"].push_back(launch.measured());
        times["approved"].push_back(launch.approved());
        times["approvals read"].push_back(launch.read_approvals());
        times["TPM"].push_back(launch.tpm());
    }
    std::printf("\n%s\n", times.dump().c_str());
}
