// SPDX-License-Identifier: Apache-2.0
#include "shared-protocol/meter.hpp"

#include <algorithm>
#include <bit>
#include <numeric>

namespace vtpm {

std::uint64_t MeterReading::all_errors() const {
    return std::accumulate(errors.begin(), errors.end(), other_errors,
                           [](std::uint64_t sum, const auto &entry) { return sum + entry.second; });
}

std::uint64_t latency_quantile(const std::array<std::uint64_t, kLatencyBuckets> &latency, double q) {
    const std::uint64_t all = std::accumulate(latency.begin(), latency.end(), std::uint64_t{0});
    if (all == 0) return 0;
    std::uint64_t below = 0;
    std::size_t bucket = 0;
    while (bucket + 1 < latency.size()) {
        below += latency.at(bucket);
        if (static_cast<double>(below) >= q * static_cast<double>(all)) break;
        ++bucket;
    }
    return std::uint64_t{1} << bucket;
}

void Meter::count(std::chrono::nanoseconds took, std::uint32_t response_code) {
    const auto nanoseconds = static_cast<std::uint64_t>(std::max<std::int64_t>(took.count(), 0));
    const std::uint64_t microseconds = (nanoseconds + 999) / 1000;
    const auto bucket = static_cast<std::size_t>(std::bit_width(microseconds <= 1 ? 0 : microseconds - 1));
    add(commands_, 1);
    add(nanoseconds_, nanoseconds);
    add(latency_[std::min(bucket, kLatencyBuckets - 1)], 1);
    if (response_code == 0) return;
    for (Code &place : errors_) {
        const std::uint32_t code = place.code.load(std::memory_order_relaxed);
        if (code != 0 && code != response_code) continue;
        add(place.count, 1);
        place.code.store(response_code, std::memory_order_release);
        return;
    }
    add(other_errors_, 1);
}

MeterReading Meter::read() const {
    const auto value = [](const Count &count) { return count.load(std::memory_order_relaxed); };
    MeterReading reading;
    reading.commands = value(commands_);
    reading.microseconds = value(nanoseconds_) / 1000;
    std::ranges::transform(latency_, reading.latency.begin(), value);
    reading.stores = value(stores_);
    for (const Code &place : errors_)
        if (const std::uint32_t code = place.code.load(std::memory_order_acquire); code != 0)
            reading.errors[code] += value(place.count);
    reading.other_errors = value(other_errors_);
    return reading;
}

}  // namespace vtpm
