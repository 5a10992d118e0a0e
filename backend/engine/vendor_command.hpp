// SPDX-License-Identifier: Apache-2.0
// What the commands that are ours have in common.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vtpm {

constexpr std::size_t kVendorPart = 2048;  // of an answer: with its header less than any driver's buffer

// TCG Part 2, 6.6.3.
constexpr std::uint32_t kSuccess = 0;
constexpr std::uint32_t kCommandSize = 0x142;
constexpr std::uint32_t kAuthContext = 0x145;

}  // namespace vtpm
