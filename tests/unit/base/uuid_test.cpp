// SPDX-License-Identifier: Apache-2.0
#include "base/uuid.hpp"

#include "tests/catch.hpp"

namespace vtpm {

TEST_CASE("a UUID is read in either case and written in lower case") {
    const auto uuid = Uuid::parse("00112233-4455-6677-8899-AABBccddeeff");
    REQUIRE(uuid);
    CHECK(uuid->to_string() == "00112233-4455-6677-8899-aabbccddeeff");
}

TEST_CASE("what is not exactly a UUID is not read") {
    for (const char *text : {"", "00112233-4455-6677-8899-aabbccddeef", "00112233-4455-6677-8899-aabbccddeeff0",
                             "00112233 4455-6677-8899-aabbccddeeff", "0x112233-4455-6677-8899-aabbccddeeff",
                             "+0112233-4455-6677-8899-aabbccddeeff", "g0112233-4455-6677-8899-aabbccddeeff",
                             "001122334-455-6677-8899-aabbccddeeff"})
        CHECK_FALSE(Uuid::parse(text));
}

TEST_CASE("random UUIDs differ and say that they are random") {
    const Uuid one = Uuid::random();
    CHECK(one != Uuid::random());
    CHECK(one.to_string().at(14) == '4');
}

}  // namespace vtpm
