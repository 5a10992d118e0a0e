// SPDX-License-Identifier: Apache-2.0
// What the commands do to a TPM: tests/integration/host_pcrs.
#include "manager/vtpm/power_on.hpp"

#include "expect.hpp"
#include "launch/event_log.hpp"
#include "launch/pcrs.hpp"
#include "manager/crypto/encoding.hpp"
#include "shared-protocol/event_log_command.hpp"
#include "shared-protocol/tpm_message.hpp"

namespace vtpm::power_on_test {

namespace {

VtpmRecord vtpm(LaunchPolicy launch, TpmVersion version = TpmVersion::k20, const char *banks = "sha256") {
    VtpmRecord record;
    record.version = version;
    record.launch = launch;
    record.profile.pcr_banks = expect(PcrBanks::parse(version == TpmVersion::k12 ? "" : banks));
    return record;
}

Bytes launch_log(const launch::Banks &banks = launch::all_banks()) {
    launch::MeasuredLaunch measured;
    measured.banks = banks;
    measured.image.digests = expect(launch::digests_of(Bytes{'k'}, banks));
    measured.command_line = "root=/dev/xvda ro";
    return expect(launch::write_event_log({banks, expect(launch::launch_events(measured))}));
}

std::vector<Bytes> split(const Bytes &commands) {
    std::vector<Bytes> all;
    for (ByteView rest = commands; !rest.empty(); rest = rest.subspan(tpm_size(rest)))
        all.emplace_back(rest.begin(), rest.begin() + tpm_size(rest));
    return all;
}

// Of the first command.
launch::EventLog log_in(const Bytes &commands) {
    const Bytes first = split(commands).at(0);
    REQUIRE(tpm_code(first) == kGiveEventLog);
    return expect(launch::read_event_log(ByteView(first).subspan(TPM_MESSAGE_HEADER_SIZE)));
}

}  // namespace

TEST_CASE("a TPM without a launch and without the host's PCRs is left alone") {
    for (const TpmVersion version : {TpmVersion::k12, TpmVersion::k20})
        REQUIRE(expect(power_on_events(vtpm(LaunchPolicy::kOff, version), {}, launch_log())).commands.empty());
}

TEST_CASE("the host's PCRs come first, each in the PCR with its number") {
    const PcrValues values{{4, Bytes{'a', 'b', 'c'}}};
    const Bytes commands = expect(power_on_events(vtpm(LaunchPolicy::kMeasure), values, launch_log())).commands;
    const launch::EventLog log = log_in(commands);
    REQUIRE(log.events.front().pcr == 4);
    // FIPS 180, example.
    const std::string abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    REQUIRE(to_hex(log.events.front().digests.at(launch::Hash::kSha256)) == abc);
    REQUIRE(to_hex(log.events.front().data) == "5048565803000000616263");
    REQUIRE(to_hex(split(commands).at(1)) ==
            "800200000041000001820000000400000009400000090000000000"
            "00000001000b" +
                abc);
    REQUIRE(split(commands).size() == log.events.size() + 1);
    const Bytes old = expect(power_on_events(vtpm(LaunchPolicy::kOff), values, {})).commands;
    REQUIRE(log_in(old).events.size() == 1);
    REQUIRE(to_hex(expect(power_on_events(vtpm(LaunchPolicy::kOff, TpmVersion::k12), values, {})).commands) ==
            "00c1000000220000001400000004a9993e364706816aba3e25717850c26c9cd0d89d");
}

TEST_CASE("a launch is extended in the banks that the TPM has, and those of its log only are left") {
    const Bytes commands =
        expect(power_on_events(vtpm(LaunchPolicy::kRequire, TpmVersion::k20, "sha1,sha384"), {}, launch_log()))
            .commands;
    const launch::EventLog log = log_in(commands);
    REQUIRE(log.banks == launch::Banks{launch::Hash::kSha1, launch::Hash::kSha384});
    REQUIRE(log == expect(launch::in_banks(expect(launch::read_event_log(launch_log())), log.banks)));
    const auto only_256 = power_on_events(vtpm(LaunchPolicy::kMeasure, TpmVersion::k20, "sha384"), {},
                                          launch_log({launch::Hash::kSha256}));
    REQUIRE_THAT(expect_error(only_256).text, Contains("without digests of sha384"));
    REQUIRE(expect_error(power_on_events(vtpm(LaunchPolicy::kMeasure), {}, Bytes(100))).code == ErrorCode::kInvalid);
    REQUIRE(split(expect(power_on_events(vtpm(LaunchPolicy::kMeasure, TpmVersion::k12), {}, launch_log())).commands)
                .size() == log.events.size());
}

TEST_CASE("what nobody measured is marked, or refused") {
    const launch::EventLog log = log_in(expect(power_on_events(vtpm(LaunchPolicy::kMeasure), {}, {})).commands);
    REQUIRE(log.events == expect(launch::unmeasured_events({launch::Hash::kSha256})));
    const Error refused = expect_error(power_on_events(vtpm(LaunchPolicy::kRequire), {}, {}));
    REQUIRE(refused.code == ErrorCode::kRefused);
    REQUIRE_THAT(refused.text, Contains("nobody measured") && Contains("xen-vtpm-launch"));
}

// A guest that nobody measured extends what a launch would.
TEST_CASE("no PCR of a launch can be reached from where an unmeasured guest begins") {
    const launch::Banks banks{launch::Hash::kSha256};
    launch::Events events = expect(launch::unmeasured_events(banks));
    const auto good = expect(launch::read_event_log(launch_log(banks))).events;
    const auto wanted = expect(launch::pcrs_after(good, banks[0]));
    events.insert(events.end(), good.begin(), good.end());
    const auto reached = expect(launch::pcrs_after(events, banks[0]));
    for (const auto &[pcr, value] : wanted) {
        CAPTURE(pcr);
        REQUIRE(reached.at(pcr) != value);
    }
}

}  // namespace vtpm::power_on_test
