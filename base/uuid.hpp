// SPDX-License-Identifier: Apache-2.0
// A vTPM's identity, as libxl writes it: RFC 9562 text form, lower case.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vtpm {

struct Uuid {
    static constexpr std::size_t kSize = 16;
    std::array<std::uint8_t, kSize> bytes{};

    // Accepts the 36-character form in either case, nothing else.
    static std::optional<Uuid> parse(std::string_view text);
    // A random (version 4) UUID from the kernel's generator.
    static Uuid random();
    [[nodiscard]] std::string to_string() const;
    auto operator<=>(const Uuid &) const = default;
};

}  // namespace vtpm
