// SPDX-License-Identifier: Apache-2.0
// What xen-vtpmd says of an engine's meter (ListMeters), read.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

#include "manager/cli/commands.hpp"
#include "shared-protocol/meter.hpp"

namespace vtpm::cli {

using Latency = std::array<std::uint64_t, kLatencyBuckets>;

Latency latency_of(const Json &meter);
// By response code, as "0x922".
std::map<std::string, std::uint64_t> errors_of(const Json &meter);
std::uint64_t all_errors(const Json &meter);
// An absent number is 0.
std::uint64_t number(const Json &meter, const char *name);
// Since its engine was started: commands, p50_us, p99_us, stores, errors.
Json counted_json(const Json &meter);

}  // namespace vtpm::cli
