// SPDX-License-Identifier: Apache-2.0
// Whose turn it is: of the threads that share everything, one works at a time, and who waits comes in the order of
// waiting. (A mutex would let the one that has it have it again.) Who makes it has it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace vtpm {

class Turn {
public:
    void take() {
        std::unique_lock lock(mutex_);
        const std::uint64_t mine = next_++;
        changed_.wait(lock, [&] { return serving_ == mine; });
    }
    void give() {
        const std::lock_guard lock(mutex_);
        ++serving_;
        changed_.notify_all();
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::uint64_t next_ = 1;
    std::uint64_t serving_ = 0;
};

// For as long as it lives, the turn is another's.
class TurnGiven {
public:
    explicit TurnGiven(Turn &turn) : turn_(turn) { turn_.give(); }
    TurnGiven(const TurnGiven &) = delete;
    TurnGiven &operator=(const TurnGiven &) = delete;
    ~TurnGiven() { turn_.take(); }

private:
    Turn &turn_;
};

}  // namespace vtpm
