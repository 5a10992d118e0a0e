// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/pool/simulation.hpp"

#include <cstdlib>

#include "tests/catch.hpp"

namespace vtpm::pool {
namespace {

std::uint64_t schedules(const char *name, std::uint64_t otherwise) {
    const char *text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

// XEN_VTPM_SCHEDULES: how many; XEN_VTPM_SCHEDULE: the first one, as a failure names it.
TEST_CASE("in no schedule is a vTPM served twice, is a store lost that was acknowledged, is what it knew given twice") {
    const std::uint64_t first = schedules("XEN_VTPM_SCHEDULE", 1);
    for (std::uint64_t i = first; i < first + schedules("XEN_VTPM_SCHEDULES", 30000); ++i) {
        INFO("schedule " << i);
        const std::string wrong = simulation::play(i);
        REQUIRE(wrong == "");
    }
    // What is not met is not tested.
    const bool few = std::getenv("XEN_VTPM_SCHEDULES") != nullptr;
    const simulation::Met &met = simulation::met();
    for (const std::uint64_t count :
         {met.commits, met.refusals, met.unknown, met.fences, met.opens, met.closes, met.kept, met.taken_over,
          met.answers, met.held_answers, met.given, met.crashes, met.restarts, met.freezes, met.cuts})
        CHECK((count > 0 || few));
}

TEST_CASE("a fault in the rules is found") {
    for (const simulation::Mutant mutant : simulation::kMutants) {
        std::uint64_t schedule = 1;
        std::string wrong;
        while (wrong.empty() && schedule < 20000) wrong = simulation::play(schedule++, mutant);
        CAPTURE(static_cast<int>(mutant));
        CHECK(wrong != "");
    }
}

}  // namespace
}  // namespace vtpm::pool
