// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/tpm_messages.hpp"

#include <catch2/catch.hpp>

#include "tests/fakes/tpm_commands.hpp"

namespace vtpm {

TEST_CASE("commands that stand one after the other are told apart") {
    const Bytes one = commands::get_random();
    const Bytes two = commands::pcr_extend(7, 1);
    Bytes all = one;
    all.insert(all.end(), two.begin(), two.end());
    CHECK(split_commands({}).value().empty());
    CHECK(split_commands(one).value() == std::vector<Bytes>{one});
    CHECK(split_commands(all).value() == std::vector<Bytes>{one, two});
}

TEST_CASE("a list of commands that is not whole is refused") {
    const Bytes one = commands::get_random();
    Bytes two = one;
    two.insert(two.end(), one.begin(), one.end());
    for (std::size_t size = 1; size < two.size(); ++size) {
        INFO(size);
        CHECK(split_commands(ByteView(two).first(size)).has_value() == (size == one.size()));
    }
    for (const std::uint8_t length : Bytes{0, 9, 11, 13}) {
        Bytes wrong = one;
        wrong.at(TPM_MESSAGE_SIZE_OFFSET + 3) = length;
        CHECK_FALSE(split_commands(wrong));
    }
    Bytes huge = one;
    huge.at(TPM_MESSAGE_SIZE_OFFSET) = 0xff;
    CHECK_FALSE(split_commands(huge));
}

}  // namespace vtpm
