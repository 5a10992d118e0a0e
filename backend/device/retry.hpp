// SPDX-License-Identifier: Apache-2.0
// What passes, and passes late, is tried again after longer and longer pauses, for as long as it takes.
#pragma once

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/result.hpp"

namespace vtpm {

constexpr std::chrono::milliseconds kRetry{250};
constexpr std::chrono::milliseconds kLongestRetry{5000};

// A manager that is restarted; the former engine of the same vTPM, which has not ended yet; memory and the like.
inline bool passes(ErrorCode code) {
    return code == ErrorCode::kUnavailable || code == ErrorCode::kInUse || code == ErrorCode::kShortage;
}

class Backoff {
public:
    // The pause before the next try.
    std::chrono::milliseconds next() { return std::exchange(pause_, std::min(2 * pause_, kLongestRetry)); }
    void reset() { pause_ = kRetry; }

private:
    std::chrono::milliseconds pause_ = kRetry;
};

}  // namespace vtpm
