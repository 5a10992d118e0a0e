// SPDX-License-Identifier: Apache-2.0
#include "launch/utf16.hpp"

#include "tests/unit/manager/expect.hpp"

namespace vtpm::utf16_test {

TEST_CASE("UTF-8 becomes UTF-16 with a NUL") {
    struct {
        const char *text;
        Bytes units;
    } const cases[] = {
        {"", {0, 0}},
        {"a", {'a', 0, 0, 0}},
        {"\xc3\xa4", {0xe4, 0, 0, 0}},
        {"\xe2\x82\xac", {0xac, 0x20, 0, 0}},
        {"\xef\xbf\xbf", {0xff, 0xff, 0, 0}},
        {"\xf0\x9f\x98\x80", {0x3d, 0xd8, 0x00, 0xde, 0, 0}},
        {"\xf4\x8f\xbf\xbf", {0xff, 0xdb, 0xff, 0xdf, 0, 0}},
    };
    for (const auto &[text, units] : cases) {
        CAPTURE(text);
        REQUIRE(expect(launch::utf16(text)) == units);
    }
}

TEST_CASE("what is no UTF-8 is refused") {
    for (const char *text : {"\x80", "\xc3", "\xc3(", "\xc0\xaf", "\xe0\x80\xaf", "\xe2\x82", "\xed\xa0\x80",
                             "\xf0\x80\x80\xaf", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "\xff", "a\xfe"}) {
        CAPTURE(text);
        REQUIRE(expect_error(launch::utf16(text)).code == ErrorCode::kInvalid);
    }
}

}  // namespace vtpm::utf16_test
