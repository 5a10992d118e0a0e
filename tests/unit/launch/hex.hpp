// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>

#include "base/bytes.hpp"

namespace vtpm::launch {

inline std::string hex(ByteView bytes) { return fmt::format("{:02x}", fmt::join(bytes, "")); }

inline Bytes from_hex(std::string_view text) {
    Bytes bytes;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2)
        bytes.push_back(static_cast<std::uint8_t>(std::stoul(std::string(text.substr(i, 2)), nullptr, 16)));
    return bytes;
}

}  // namespace vtpm::launch
