// SPDX-License-Identifier: Apache-2.0
#include "base/number.hpp"

#include "catch.hpp"

using namespace vtpm;

TEST_CASE("only plain decimal numbers of 32 bits are taken") {
    CHECK(parse_number("0") == 0U);
    CHECK(parse_number("4294967295") == 4294967295U);
    for (const char *text : {"", " 1", "1 ", "+1", "-1", "0x1", "4294967296", "99999999999999999999", "1\n"})
        CHECK_FALSE(parse_number(text));
}

TEST_CASE("a number of another width and base is bounded by these") {
    CHECK(parse_number<std::uint8_t>("fF", 16) == std::uint8_t{255});
    for (const char *text : {"", "g0", "100", "-1", "0x1", " f"}) CHECK_FALSE(parse_number<std::uint8_t>(text, 16));
}
