// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/meters.hpp"

#include <cstdlib>
#include <sstream>

namespace vtpm::cli {

// "3 0 12 ...". A daemon of another version may count in more buckets or fewer.
Latency latency_of(const Json &meter) {
    Latency latency{};
    std::istringstream words(meter.value("latency", ""));
    for (std::uint64_t &bucket : latency)
        if (!(words >> bucket)) break;
    return latency;
}

// "0x922:3 0x9a2:1"
std::map<std::string, std::uint64_t> errors_of(const Json &meter) {
    std::map<std::string, std::uint64_t> errors;
    std::istringstream words(meter.value("errors", ""));
    for (std::string word; words >> word;)
        if (const std::size_t colon = word.find(':'); colon != std::string::npos)
            errors[word.substr(0, colon)] = std::strtoull(word.c_str() + colon + 1, nullptr, 10);
    return errors;
}

std::uint64_t number(const Json &meter, const char *name) { return meter.value(name, std::uint64_t{0}); }

std::uint64_t all_errors(const Json &meter) {
    std::uint64_t sum = number(meter, "other_errors");
    for (const auto &[code, count] : errors_of(meter)) sum += count;
    return sum;
}

Json counted_json(const Json &meter) {
    const Latency latency = latency_of(meter);
    Json errors = Json::object();
    for (const auto &[code, count] : errors_of(meter)) errors[code] = count;
    if (const std::uint64_t others = number(meter, "other_errors"); others != 0) errors["other"] = others;
    return {{"commands", number(meter, "commands")},
            {"p50_us", latency_quantile(latency, 0.5)},
            {"p99_us", latency_quantile(latency, 0.99)},
            {"stores", number(meter, "stores")},
            {"errors", std::move(errors)}};
}

}  // namespace vtpm::cli
