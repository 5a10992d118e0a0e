// SPDX-License-Identifier: Apache-2.0
#include "base/uuid.hpp"

#include <sys/random.h>

#include <charconv>

#include "base/result.hpp"

namespace vtpm {
namespace {

constexpr std::size_t kTextSize = 36;
constexpr std::string_view kDigits = "0123456789abcdef";

constexpr bool hyphen_stands_at(std::size_t i) { return i == 8 || i == 13 || i == 18 || i == 23; }

}  // namespace

std::optional<Uuid> Uuid::parse(std::string_view text) {
    if (text.size() != kTextSize) return std::nullopt;
    Uuid uuid;
    std::size_t filled = 0;
    for (std::size_t i = 0; i < kTextSize;) {
        if (hyphen_stands_at(i)) {
            if (text[i++] != '-') return std::nullopt;
            continue;
        }
        const char *end = text.data() + i + 2;
        const auto parsed = std::from_chars(text.data() + i, end, uuid.bytes.at(filled++), 16);
        if (parsed.ec != std::errc{} || parsed.ptr != end) return std::nullopt;
        i += 2;
    }
    return uuid;
}

Uuid Uuid::random() {
    Uuid uuid;
    require(::getrandom(uuid.bytes.data(), kSize, 0) == static_cast<ssize_t>(kSize), "getrandom gives 16 bytes");
    uuid.bytes[6] = static_cast<std::uint8_t>((uuid.bytes[6] & 0x0f) | 0x40);  // version 4
    uuid.bytes[8] = static_cast<std::uint8_t>((uuid.bytes[8] & 0x3f) | 0x80);  // RFC 9562 variant
    return uuid;
}

std::string Uuid::to_string() const {
    std::string text;
    text.reserve(kTextSize);
    for (const std::uint8_t byte : bytes) {
        if (hyphen_stands_at(text.size())) text += '-';
        text += kDigits.at(byte >> 4);
        text += kDigits.at(byte & 0xf);
    }
    return text;
}

}  // namespace vtpm
