// SPDX-License-Identifier: Apache-2.0
#include "shared-protocol/meter.hpp"

#include <numeric>
#include "tests/catch.hpp"

namespace vtpm {
namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;

std::size_t bucket_of(nanoseconds took) {
    Meter meter;
    meter.count(took, 0);
    const auto latency = meter.read().latency;
    const auto found = std::ranges::find(latency, 1U);
    REQUIRE(std::accumulate(latency.begin(), latency.end(), std::uint64_t{0}) == 1);
    return static_cast<std::size_t>(found - latency.begin());
}

}  // namespace

TEST_CASE("a command is counted in the bucket whose bound it does not pass") {
    CHECK(bucket_of(nanoseconds(-5)) == 0);
    CHECK(bucket_of(nanoseconds(0)) == 0);
    CHECK(bucket_of(nanoseconds(1000)) == 0);
    CHECK(bucket_of(nanoseconds(1001)) == 1);
    CHECK(bucket_of(microseconds(2)) == 1);
    CHECK(bucket_of(nanoseconds(2001)) == 2);
    CHECK(bucket_of(microseconds(1024)) == 10);
    CHECK(bucket_of(microseconds(1025)) == 11);
    CHECK(bucket_of(microseconds(8'388'608)) == 23);
    CHECK(bucket_of(microseconds(8'388'609)) == 24);
    CHECK(bucket_of(std::chrono::hours(24)) == 24);
}

TEST_CASE("a quantile is the bound of its bucket") {
    std::array<std::uint64_t, kLatencyBuckets> latency{};
    CHECK(latency_quantile(latency, 0.5) == 0);
    latency[3] = 98;
    latency[10] = 2;
    CHECK(latency_quantile(latency, 0.5) == 8);
    CHECK(latency_quantile(latency, 0.98) == 8);
    CHECK(latency_quantile(latency, 0.99) == 1024);
    CHECK(latency_quantile(latency, 1) == 1024);
    latency = {};
    latency.back() = 1;
    CHECK(latency_quantile(latency, 0.5) == std::uint64_t{1} << 24);
}

TEST_CASE("a guest that provokes every response code fills sixteen places and no more") {
    Meter meter;
    meter.count(microseconds(3), 0);
    for (std::uint32_t code = 0x100; code < 0x140; ++code) {
        meter.count(microseconds(3), code);
        meter.count(microseconds(3), code);
    }
    meter.count(microseconds(3), 0x100);
    meter.set_stores(7);
    const MeterReading reading = meter.read();
    CHECK(reading.commands == 130);
    CHECK(reading.microseconds == 390);
    CHECK(reading.errors.size() == kMeteredCodes);
    CHECK(reading.errors.at(0x100) == 3);
    CHECK(reading.errors.at(0x10f) == 2);
    CHECK(reading.other_errors == 96);
    CHECK(reading.all_errors() == 129);
    CHECK(reading.stores == 7);
}

}  // namespace vtpm
