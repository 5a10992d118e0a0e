// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/event_record.hpp"

#include <algorithm>

#include "expect.hpp"

namespace vtpm::event_record_test {

namespace {

const std::string kType = "EV_EFI_BOOT_SERVICES_APPLICATION";

BootEvent event(unsigned pcr, std::uint8_t digest, std::string text = {}) {
    return {pcr, text.empty() ? "EV_SEPARATOR" : kType, Bytes(32, digest), std::move(text)};
}

using Events = std::vector<BootEvent>;
const Events kThen{event(4, 1, "shim"), event(7, 9, "SecureBoot"), event(4, 2), event(4, 3, "grub")};

// Of PCR 4, which was another one then.
std::string explained(const Events &then, const Events &now) {
    return explain({{4, Bytes(32, 1)}}, {{4, Bytes(32, 2)}}, event_record(then), now);
}

}  // namespace

TEST_CASE("an event that was not measured then is named, with its number") {
    REQUIRE(explained(kThen, {event(4, 1, "shim"), event(4, 2), event(4, 5, "another grub")}) ==
            "PCR 4: event 3, " + kType + " 'another grub', was not measured when the key was sealed");
    Events more = kThen;
    more.push_back(event(4, 7));
    REQUIRE(explained(kThen, more) == "PCR 4: event 4, EV_SEPARATOR, was not measured when the key was sealed");
    more.back() = event(4, 3, "grub");  // once more
    REQUIRE_THAT(explained(kThen, more), Contains("event 4, " + kType + " 'grub', was not measured"));
    REQUIRE_THAT(explained({event(7, 9)}, {event(4, 1, "shim")}), Contains("event 1, " + kType + " 'shim', was not"));
}

TEST_CASE("an event that is missing now is told, and one that comes in another order") {
    REQUIRE(explained(kThen, {event(4, 1, "shim"), event(4, 2)}) == "PCR 4: event 3 of then is missing now");
    REQUIRE(explained(kThen, {event(4, 1, "shim"), event(4, 3, "grub")}) ==
            "PCR 4: event 2 of then is missing now, before " + kType + " 'grub'");
    REQUIRE(explained(kThen, {event(4, 1, "shim"), event(4, 3, "grub"), event(4, 2)}) ==
            "PCR 4: event 2, " + kType + " 'grub', comes in another order");
    REQUIRE(explained(kThen, {event(7, 9)}) == "PCR 4: event 1 of then is missing now");
    REQUIRE_THAT(explained(kThen, kThen), Contains("its events are as they were"));
}

TEST_CASE("only PCRs that differ are explained, and of many the first") {
    const Events now{event(4, 5, "a"), event(7, 6, "b")};
    REQUIRE_THAT(explain({{4, Bytes(32, 1)}, {7, Bytes(32, 1)}}, {{4, Bytes(32, 1)}, {7, Bytes(32, 2)}},
                         event_record(kThen), now),
                 Contains("PCR 7: event 1, " + kType + " 'b'") && !Contains("PCR 4"));
    REQUIRE(explain({{4, Bytes(32)}}, {{4, Bytes(32)}}, event_record(kThen), now).empty());
    REQUIRE(explain({{4, Bytes(32)}}, {}, event_record(kThen), now).empty());
    PcrValues before;
    PcrValues after;
    Events all;
    for (unsigned pcr = 0; pcr < 24; ++pcr) {
        before[pcr] = Bytes(32, 1);
        after[pcr] = Bytes(32, 2);
        all.push_back(event(pcr, 1, std::string(120, 'x')));
    }
    const std::string text = explain(before, after, event_record(kThen), all);
    REQUIRE_THAT(text, Contains("PCR 0:") && Contains("PCR 1:") && !Contains("PCR 2:"));
    REQUIRE(text.size() < 350);
}

TEST_CASE("without a record the last event with a name is told, and without a log nothing") {
    REQUIRE(explained({}, {event(4, 1, "shim"), event(4, 3, "grub"), event(4, 2)}) ==
            "PCR 4: the firmware's log has 3 of its events, at last " + kType + " 'grub'");
    REQUIRE(explained({}, {event(4, 2)}) == "PCR 4: the firmware's log has 1 of its events, at last EV_SEPARATOR");
    REQUIRE(explained({}, {event(7, 2)}) == "PCR 4: the firmware's log has no event of it");
    REQUIRE(explained(kThen, {}).empty());
}

TEST_CASE("events of other banks are not of this PCR, and a log without end is not kept") {
    BootEvent other = event(4, 0, "sha1 only");
    other.digest.clear();
    REQUIRE(event_record({other}).empty());
    REQUIRE_THAT(explained({event(4, 1, "shim")}, {other, event(4, 2, "grub")}),
                 Contains("event 1, " + kType + " 'grub'"));
    REQUIRE_FALSE(event_record(Events(1024, event(4, 1))).empty());
    REQUIRE(event_record(Events(1025, event(4, 1))).empty());
}

TEST_CASE("whatever the store has as a record, the explanation is one short line") {
    const Bytes record = event_record(kThen);
    const Events now{event(4, 1, "shim"), event(4, 5, "another grub")};
    const auto check = [&](const Bytes &damaged) {
        const std::string text = explain({{4, Bytes(32, 1)}}, {{4, Bytes(32, 2)}}, damaged, now);
        REQUIRE_FALSE(text.empty());
        REQUIRE(text.size() < 200);
        REQUIRE(std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; }));
    };
    for (std::size_t i = 0; i < record.size(); ++i) {
        check(Bytes(record.begin(), record.begin() + static_cast<std::ptrdiff_t>(i)));
        for (const std::uint8_t value : Bytes{0, 1, 31, 33, 64, 65, 0xff}) {
            Bytes changed = record;
            changed[i] = value;
            check(changed);
        }
    }
    check(Bytes(3'000'000, 1));
    Bytes too_many;  // more than are ever kept
    while (too_many.size() < 1025 * 34) too_many.insert(too_many.end(), record.begin(), record.begin() + 34);
    REQUIRE_THAT(explain({{4, Bytes(32, 1)}}, {{4, Bytes(32, 2)}}, too_many, now),
                 Contains("2 of its events, at last"));
    const Bytes cut(record.begin(), record.end() - 1);
    REQUIRE_THAT(explain({{4, Bytes(32, 1)}}, {{4, Bytes(32, 2)}}, cut, now), Contains("2 of its events, at last"));
}

}  // namespace vtpm::event_record_test
