// SPDX-License-Identifier: Apache-2.0
#include "backend/upgrade.hpp"

#include "tests/catch.hpp"

#include "backend/device/engine_host.hpp"

namespace vtpm {
namespace {

const std::uint32_t kEngines = protocol_version(Channel::kEngines);
const std::uint32_t kState = protocol_version(Channel::kState);

bus::Dictionary zygote(std::uint32_t engines, std::uint32_t engines_protocol, std::uint32_t state_protocol) {
    return {{"pid", 4711U},
            {"engines", engines},
            {"engines_protocol", engines_protocol},
            {"state_protocol", state_protocol}};
}

}  // namespace

TEST_CASE("an upgrade says what it would cost before it does") {
    CHECK(can_take_over({}));
    CHECK(can_take_over({zygote(3, kEngines, kState), zygote(1, kEngines, kState)}));
    CHECK(can_take_over({zygote(0, kEngines + 1, kState + 1)}));  // nothing runs there
    const auto lost = can_take_over({zygote(3, kEngines, kState), zygote(2, kEngines + 1, kState)});
    REQUIRE_FALSE(lost);
    CHECK(lost.error().text.starts_with("2 running TPMs speak another protocol"));
    const auto mute = can_take_over({zygote(3, kEngines, kState + 1)});
    REQUIRE_FALSE(mute);
    CHECK(mute.error().text.starts_with("3 running TPMs could store nothing"));
    CHECK_FALSE(can_take_over({{{"engines", 1U}}}));  // who does not tell
}

TEST_CASE("the name by which engines are kept tells their protocols") {
    const auto name = parse_kept_name(to_string(KeptName{0xfedcba98, 1, 4711}));
    REQUIRE(name);
    CHECK(name->engines_protocol == 0xfedcba98);
    CHECK(name->state_protocol == 1);
    CHECK(name->zygote == 4711);
    for (const char *other : {"", "engines-2-4711", "engines-fedcba98-00000001-", "engines-fedcba98-1-4711",
                              "engines-fedcba98-00000001-4711x", "engines-FEDCBA98-00000001-4711", "stored"})
        CHECK_FALSE(parse_kept_name(other));
}

}  // namespace vtpm
