// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

namespace vtpm {

// Digits only, no sign, no space, in range: what others wrote is not to be guessed at.
template <typename T = std::uint32_t>
std::optional<T> parse_number(std::string_view text, int base = 10) {
    static_assert(std::is_unsigned_v<T>);  // from_chars takes no sign then
    T number = 0;
    const char *const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number, base);
    if (error != std::errc{} || stop != end) return std::nullopt;
    return number;
}

}  // namespace vtpm
