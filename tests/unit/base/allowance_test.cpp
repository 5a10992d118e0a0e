// SPDX-License-Identifier: Apache-2.0
#include "base/allowance.hpp"

#include "tests/catch.hpp"

using namespace vtpm;
using namespace std::chrono_literals;

TEST_CASE("an allowance is a burst, then one per interval") {
    Allowance allowance(3, 100ms);
    const Allowance::Clock::time_point start{1h};
    for (int i = 0; i < 3; ++i) CHECK(allowance.take(start));
    CHECK_FALSE(allowance.take(start));
    CHECK_FALSE(allowance.take(start + 99ms));
    CHECK(allowance.take(start + 100ms));
    CHECK_FALSE(allowance.take(start + 100ms));
    CHECK(allowance.take(start + 250ms));
    CHECK_FALSE(allowance.take(start + 250ms));
    CHECK(allowance.take(start + 300ms));
}

TEST_CASE("an allowance that was not used is no larger than its burst") {
    Allowance allowance(2, 100ms);
    const Allowance::Clock::time_point start{1h};
    CHECK(allowance.take(start));
    CHECK(allowance.take(start + 1h));
    CHECK(allowance.take(start + 1h));
    CHECK_FALSE(allowance.take(start + 1h));
}
