// SPDX-License-Identifier: Apache-2.0
// Hosts of a pool against everything that can happen to them, in one thread and without waiting: a schedule is a
// number, which decides all that is random. The hosts' classes are the real ones; the store does what etcd's
// transactions do.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "manager/pool/heard.hpp"
#include "manager/pool/ownership.hpp"
#include "manager/pool/session.hpp"

namespace vtpm::pool::simulation {

// Each is a fault that somebody could make. With any of them schedules must fail.
enum class Mutant : std::uint8_t {
    kNone,
    kWritesWithoutSession,   // a transaction does not compare the session's record
    kLeaseFromAnswer,        // a lease is counted from when the answer came
    kHalfTheSilence,         // a host is taken for dead too early
    kChecksBeforeOnly,       // an engine looks at the lease before a command, and not before its answer
    kKeepsWhatItKnew,        // what a vTPM knew stays in the store when it was given
    kSeizesWithoutFence,     // a vTPM is taken from a silent host that is not fenced
    kUnknownIsCommitted,     // an answer that did not come is taken for a good one
    kClockTenPercentWrong,   // more than kClockError
    kServesOnWhenTakenOver,  // an engine goes on under the next session without asking who has its vTPM
};
constexpr Mutant kMutants[] = {
    Mutant::kWritesWithoutSession, Mutant::kLeaseFromAnswer,      Mutant::kHalfTheSilence,
    Mutant::kChecksBeforeOnly,     Mutant::kKeepsWhatItKnew,      Mutant::kSeizesWithoutFence,
    Mutant::kUnknownIsCommitted,   Mutant::kClockTenPercentWrong, Mutant::kServesOnWhenTakenOver};

// What was wrong in this schedule; empty: nothing.
std::string play(std::uint64_t schedule, Mutant mutant = Mutant::kNone);

// What schedules have met, so that none of it is met by no schedule.
struct Met {
    std::uint64_t commits = 0, refusals = 0, unknown = 0, fences = 0, opens = 0, closes = 0, kept = 0, taken_over = 0,
                  answers = 0, held_answers = 0, given = 0, crashes = 0, restarts = 0, freezes = 0, cuts = 0;
};
const Met &met();

}  // namespace vtpm::pool::simulation
