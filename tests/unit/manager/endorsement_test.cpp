// SPDX-License-Identifier: Apache-2.0
#include "manager/ca/endorsement.hpp"

#include "expect.hpp"

namespace vtpm::endorsement_test {

TEST_CASE("endorsement keys are read as they were written, with the order to issue their certificates again") {
    const bool reissue = GENERATE(false, true);
    const Endorsement written{{{Bytes(300, 1), Bytes(900, 2)}, {Bytes(100, 3), Bytes(700, 4)}}, reissue};
    const Bytes encoded = encode_endorsement(written);
    CHECK(awaits_reissue(encoded) == reissue);
    const Endorsement read = expect(decode_endorsement(encoded));
    CHECK(read.reissue == reissue);
    REQUIRE(read.keys.size() == 2);
    CHECK(read.keys[1].public_area == written.keys[1].public_area);
    CHECK(read.keys[1].certificate == written.keys[1].certificate);
    for (std::size_t size = 1; size < encoded.size(); ++size) {
        INFO(size);
        CHECK_FALSE(decode_endorsement(ByteView(encoded).first(size)));
    }
    Bytes longer = encoded;
    longer.push_back(0);
    CHECK_FALSE(decode_endorsement(longer));
}

TEST_CASE("without keys there is nothing to issue again") {
    CHECK(encode_endorsement({{}, true}).empty());
    CHECK_FALSE(awaits_reissue({}));
    CHECK(expect(decode_endorsement({})).keys.empty());
    CHECK_FALSE(decode_endorsement(Bytes{9}));
    CHECK_FALSE(decode_endorsement(Bytes{0x89}));
}

}  // namespace vtpm::endorsement_test
