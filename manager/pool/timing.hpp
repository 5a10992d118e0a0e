// SPDX-License-Identifier: Apache-2.0
// Who may still serve, and who may take over. All times are CLOCK_BOOTTIME's of one host, which counts while the
// machine sleeps and is never set; of two hosts' clocks only the rates are compared, and taken to differ by kClockError
// each from the true one (NTP slews a clock by 0.05 % at most).
#pragma once

#include <chrono>
#include <functional>

namespace vtpm::pool {

using Time = std::chrono::nanoseconds;
using Now = std::function<Time()>;

constexpr double kClockError = 0.01;

struct Timing {
    Time ttl = std::chrono::seconds(10);

    // From one sign of life of a session to the next.
    [[nodiscard]] Time beat() const { return ttl / 5; }
    // How long a host may serve, from when it sent what was committed.
    [[nodiscard]] Time lease() const { return ttl * 99 / 100; }
    // How long another host must have heard nothing of it, before it takes over: more than the lease by a clock that is
    // late, measured by one that is early.
    [[nodiscard]] Time silence() const { return ttl * 101 / 100 + std::chrono::milliseconds(500); }
    // Before a transaction without an answer is asked for again.
    [[nodiscard]] Time pause() const { return ttl / 50; }
};

}  // namespace vtpm::pool
