// SPDX-License-Identifier: Apache-2.0
#include "backend/launch_records.hpp"

#include "launch/event_log.hpp"
#include "tests/fakes/fake_domains.hpp"
#include "tests/unit/manager/expect.hpp"

namespace vtpm::launch_records_test {

namespace {

Bytes log_of(std::string_view line) {
    launch::MeasuredLaunch measured;
    measured.banks = {launch::Hash::kSha256};
    measured.image.digests[launch::Hash::kSha256] = Bytes(32);
    measured.command_line = line;
    return expect(launch::write_event_log({measured.banks, expect(launch::launch_events(measured))}));
}

struct Fixture {
    FakeDomains domains;
    LaunchRecords records{domains};
    const Uuid handle = FakeDomains::kImage;
    const Uuid other = Uuid::random();
};

}  // namespace

TEST_CASE_METHOD(Fixture, "a launch is kept for its domain, and for no other one") {
    expect(records.record({7, log_of("a")}));
    REQUIRE(*records.find(7, handle) == log_of("a"));
    REQUIRE(records.find(8, handle) == nullptr);
    REQUIRE(records.find(7, other) == nullptr);
    records.forget(7);
    REQUIRE(records.find(7, handle) == nullptr);
}

TEST_CASE_METHOD(Fixture, "a new launch takes the place of the one before") {
    expect(records.record({7, log_of("a")}));
    expect(records.record({7, log_of("b")}));
    REQUIRE(*records.find(7, handle) == log_of("b"));
    REQUIRE(records.size() == 1);
}

TEST_CASE_METHOD(Fixture, "a domain that runs, or is not there, has no launch to record") {
    domains.facts(7).has_run = true;
    REQUIRE(expect_error(records.record({7, log_of("a")})).code == ErrorCode::kRefused);
    domains.gone.insert(8);
    REQUIRE(expect_error(records.record({8, log_of("a")})).code == ErrorCode::kNotFound);
    domains.silent_about.insert(9);
    REQUIRE(expect_error(records.record({9, log_of("a")})).code == ErrorCode::kUnavailable);
    REQUIRE(expect_error(records.record({10, Bytes(100)})).code == ErrorCode::kInvalid);
    REQUIRE(records.size() == 0);
}

TEST_CASE_METHOD(Fixture, "what is recorded of a domain goes with it, also when its number is used again") {
    for (const std::uint32_t domain : {7U, 8U, 9U}) expect(records.record({domain, log_of("a")}));
    domains.gone.insert(7);
    domains.facts(8).incarnation.domain = other;
    domains.silent_about.insert(9);
    REQUIRE(records.find(8, other) == nullptr);
    records.forget_gone();
    REQUIRE(records.size() == 1);
    REQUIRE(records.find(9, handle) != nullptr);
}

TEST_CASE_METHOD(Fixture, "the records are bounded, and those of domains that are gone make room") {
    const Bytes log = log_of("");
    for (std::uint32_t domain = 1; domain <= LaunchRecords::kMost; ++domain) expect(records.record({domain, log}));
    REQUIRE(expect_error(records.record({5000, log})).code == ErrorCode::kShortage);
    expect(records.record({1, log}));
    domains.gone.insert(2);
    expect(records.record({5000, log}));
    REQUIRE(records.size() == LaunchRecords::kMost);
}

}  // namespace vtpm::launch_records_test
