// SPDX-License-Identifier: Apache-2.0
// What an engine counts: a page of shared memory that the engine alone writes and xen-vtpmd reads. An engine that was
// taken over may write anything there: these are numbers, for people and graphs, and nothing is decided by them.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>

namespace vtpm {

// The last bucket has what took longer. The others: at most 2^n microseconds, 8 seconds for the one before the last.
constexpr std::size_t kLatencyBuckets = 25;
// A guest can provoke any response code: of the codes that came first each has a count, the others have one together.
constexpr std::size_t kMeteredCodes = 16;

// A copy. All counts are since the engine was started.
struct MeterReading {
    std::uint64_t commands = 0;
    std::uint64_t microseconds = 0;  // that they took, from the page and back to it
    std::array<std::uint64_t, kLatencyBuckets> latency{};
    std::uint64_t stores = 0;                       // changes that were made durable
    std::map<std::uint32_t, std::uint64_t> errors;  // by TPM_RC
    std::uint64_t other_errors = 0;

    [[nodiscard]] std::uint64_t all_errors() const;
};

// Of the bucket in which the q-th part of them ends, its bound in microseconds; 0: there were none.
std::uint64_t latency_quantile(const std::array<std::uint64_t, kLatencyBuckets> &latency, double q);

class Meter {
public:
    void count(std::chrono::nanoseconds took, std::uint32_t response_code);
    void set_stores(std::uint64_t stores) { stores_.store(stores, std::memory_order_relaxed); }
    [[nodiscard]] MeterReading read() const;

private:
    // One writer: no read-modify-write is needed.
    using Count = std::atomic<std::uint64_t>;
    static_assert(Count::is_always_lock_free, "it is in memory that processes share");
    struct Code {
        std::atomic<std::uint32_t> code;  // 0, TPM_RC_SUCCESS: the place is free
        Count count;
    };
    static void add(Count &count, std::uint64_t more) {
        count.store(count.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
    }

    Count commands_{0};
    Count nanoseconds_{0};
    std::array<Count, kLatencyBuckets> latency_{};
    Count stores_{0};
    std::array<Code, kMeteredCodes> errors_{};
    Count other_errors_{0};
};

constexpr std::size_t kMeterSize = 4096;  // of each: a page
static_assert(sizeof(Meter) <= kMeterSize);

}  // namespace vtpm
