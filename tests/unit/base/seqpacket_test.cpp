// SPDX-License-Identifier: Apache-2.0
#include "base/seqpacket.hpp"

#include <catch2/catch.hpp>

namespace vtpm {

TEST_CASE("what a peer said is heard before its end, though it has not read what it was told") {
    auto ends = make_seqpacket_pair();
    REQUIRE(ends);
    const Bytes word{1, 2, 3};
    REQUIRE(send_message(ends->ours.get(), Bytes{9}));
    for (int i = 0; i < 2; ++i) REQUIRE(send_message(ends->theirs.get(), word));
    ends->theirs.reset();
    Bytes buffer(16);
    for (const std::size_t size : {word.size(), word.size(), std::size_t{0}, std::size_t{0}}) {
        const auto received = receive_message(ends->ours.get(), buffer);
        REQUIRE(received);
        CHECK(received->size == size);
    }
}

}  // namespace vtpm
