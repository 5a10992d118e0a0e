// SPDX-License-Identifier: Apache-2.0
#include "launch/event_log.hpp"

#include "launch/tcg_log.hpp"
#include "pe_writer.hpp"
#include "tests/unit/manager/expect.hpp"

namespace vtpm::launch_log_test {
using namespace launch;

namespace {

EventLog test_log(const Banks &banks = all_banks()) {
    const Bytes file = test_uki();
    const auto measured = expect(measure({file, std::nullopt}, expect(read_boot_image(file)), banks));
    return {banks, expect(launch_events(measured))};
}

// A log whose only event is this one, in SHA-256.
Bytes one_event(LogEvent event, const Bytes &digest = Bytes(32)) {
    Bytes log = spec_id_event({{0x000b, 32}});
    if (event.digests.empty()) event.digests.push_back({0x000b, digest});
    const Bytes bytes = log_event(event);
    log.insert(log.end(), bytes.begin(), bytes.end());
    return log;
}

}  // namespace

TEST_CASE("a log is read as it was written") {
    for (const Banks &banks : {all_banks(), Banks{Hash::kSha256}, Banks{Hash::kSha384, Hash::kSha1}}) {
        const EventLog log = test_log(banks);
        REQUIRE(expect(read_event_log(expect(write_event_log(log)))) == log);
    }
}

TEST_CASE("a log of fewer banks has the same events") {
    const EventLog log = test_log();
    REQUIRE(expect(in_banks(log, {Hash::kSha256})) == test_log({Hash::kSha256}));
    REQUIRE_THAT(expect_error(in_banks(test_log({Hash::kSha1}), {Hash::kSha256})).text,
                 Contains("without digests of sha256"));
}

TEST_CASE("a log that ends early is refused, but between two events") {
    const EventLog log = test_log();
    const Bytes whole = expect(write_event_log(log));
    std::size_t good = 0;
    for (std::size_t size = 0; size < whole.size(); ++size)
        if (read_event_log(ByteView(whole).first(size))) ++good;
    REQUIRE(good == log.events.size() - 1);
}

TEST_CASE("a log has one form: any byte that is another one is another event, or refused") {
    const EventLog log = test_log({Hash::kSha256});
    const Bytes whole = expect(write_event_log(log));
    for (std::size_t i = 0; i < whole.size(); ++i) {
        Bytes changed = whole;
        changed[i] ^= 1;
        const auto read = read_event_log(changed);
        if (read) REQUIRE_FALSE(*read == log);
    }
}

TEST_CASE("what a launch would not measure is refused") {
    const Bytes data(4);
    REQUIRE(read_event_log(one_event({15, 0x0d, {}, data})));
    const auto error = [](const Bytes &log) { return expect_error(read_event_log(log)).text; };
    REQUIRE_THAT(error(one_event({16, 0x0d, {}, data})), Contains("may reset"));
    REQUIRE_THAT(error(one_event({0xffffffff, 0x0d, {}, data})), Contains("may reset"));
    REQUIRE_THAT(error(one_event({0, 3, {}, data})), Contains("measures nothing"));
    REQUIRE_THAT(error(spec_id_event({{0x000b, 32}})), Contains("no event"));
    REQUIRE_THAT(error(spec_id_event({})), Contains("no digests"));
    REQUIRE_THAT(error(spec_id_event({{0x0012, 32}})), Contains("unknown kind"));
    REQUIRE_THAT(error(spec_id_event({{0x000b, 20}})), Contains("unknown kind"));
    REQUIRE_THAT(error(spec_id_event({{0x000b, 32}, {0x000b, 32}})), Contains("twice"));
    REQUIRE_THAT(error(Bytes(kMaxLog + 1)), Contains("too long"));
    REQUIRE_THAT(error(one_event({4, 0x0d, {}, Bytes(kMaxLog)})), Contains("too long"));
}

TEST_CASE("a log is not written longer than it may be, nor with a digest missing") {
    EventLog log = test_log({Hash::kSha256});
    log.events.back().data.resize(kMaxLog);
    REQUIRE_THAT(expect_error(write_event_log(log)).text, Contains("longer than"));
    log.events.back().digests.clear();
    REQUIRE_THAT(expect_error(write_event_log(log)).text, Contains("no digest of sha256"));
}

}  // namespace vtpm::launch_log_test
