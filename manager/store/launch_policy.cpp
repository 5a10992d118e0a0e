// SPDX-License-Identifier: Apache-2.0
#include "manager/store/launch_policy.hpp"

#include <algorithm>
#include <array>

namespace vtpm {
namespace {

// In the order of the enumeration.
constexpr std::array<std::string_view, 4> kNames{"off", "measure", "require", "require-approved"};

}  // namespace

std::string_view to_string(LaunchPolicy policy) { return kNames.at(static_cast<std::size_t>(policy)); }

std::optional<LaunchPolicy> parse_launch_policy(std::string_view text) {
    const auto *const found = std::ranges::find(kNames, text);
    if (found == kNames.end()) return std::nullopt;
    return static_cast<LaunchPolicy>(found - kNames.begin());
}

}  // namespace vtpm
