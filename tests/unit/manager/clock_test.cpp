// SPDX-License-Identifier: Apache-2.0
#include "manager/ca/clock.hpp"

#include "tests/catch.hpp"

#include "manager/crypto/encoding.hpp"

namespace vtpm::clock_test {

TEST_CASE("a clock is doubted that is before the program, out of all bounds, or synchronised by nothing") {
    constexpr std::int64_t kBuilt = 1'764'374'400;  // 2025-11-29
    CHECK(doubt_of_clock(kBuilt, kBuilt, true).empty());
    CHECK(doubt_of_clock(kBuilt + 1'000'000'000, kBuilt, true).empty());
    CHECK_THAT(doubt_of_clock(kBuilt - 1, kBuilt, true), Contains("2025-11-28T23:59:59Z") && Contains("built"));
    CHECK_THAT(doubt_of_clock(0, kBuilt, true), Contains("1970-01-01"));
    CHECK_THAT(doubt_of_clock(kBuilt, kBuilt, false), Contains("synchronised"));
    CHECK_FALSE(doubt_of_clock(-1, kBuilt, true).empty());
    CHECK_FALSE(doubt_of_clock(kLastUtc + 1, kBuilt, true).empty());
}

}  // namespace vtpm::clock_test
