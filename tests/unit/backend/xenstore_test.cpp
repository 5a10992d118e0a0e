// SPDX-License-Identifier: Apache-2.0
#include "backend/xen/xenstore.hpp"

#include <catch2/catch.hpp>

namespace vtpm {

TEST_CASE("only plain decimal numbers of 32 bits are taken from xenstore") {
    CHECK(parse_number("0") == 0U);
    CHECK(parse_number("4294967295") == 4294967295U);
    for (const char *text : {"", " 1", "1 ", "+1", "-1", "0x1", "4294967296", "99999999999999999999", "1\n"})
        CHECK_FALSE(parse_number(text));
}

}  // namespace vtpm
