// SPDX-License-Identifier: Apache-2.0
// How often somebody else may make us do something: `burst` times at once, and then once per `interval`.
#pragma once

#include <algorithm>
#include <chrono>

namespace vtpm {

class Allowance {
public:
    using Clock = std::chrono::steady_clock;

    Allowance(int burst, std::chrono::milliseconds interval) : burst_(burst * interval), interval_(interval) {}

    // Whether it may be done now; then it counts.
    [[nodiscard]] bool take(Clock::time_point now = Clock::now()) {
        // When all that was taken would be given back; never further in the past than now.
        const auto full = std::max(full_, now) + interval_;
        if (full - now > burst_) return false;
        full_ = full;
        return true;
    }

private:
    std::chrono::milliseconds burst_;
    std::chrono::milliseconds interval_;
    Clock::time_point full_{};
};

}  // namespace vtpm
