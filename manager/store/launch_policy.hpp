// SPDX-License-Identifier: Apache-2.0
// What a vTPM asks of its guest's launch (docs/measured-launch.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace vtpm {

enum class LaunchPolicy : std::uint8_t {
    kOff,              // its PCRs say nothing of it
    kMeasure,          // they say what was booted, or that nobody measured that
    kRequire,          // the TPM is on for measured launches only
    kRequireApproved,  // and of these for those that an approver signed
};

// For people.
constexpr std::string_view kLaunchPolicies = "off, measure, require or require-approved";

std::string_view to_string(LaunchPolicy policy);  // "off", "measure", "require", "require-approved"
std::optional<LaunchPolicy> parse_launch_policy(std::string_view text);

}  // namespace vtpm
