// SPDX-License-Identifier: Apache-2.0
#include "manager/crypto/encoding.hpp"

#include <fmt/chrono.h>
#include <openssl/evp.h>

#include <algorithm>
#include <charconv>
#include <chrono>

#include "base/result.hpp"

namespace vtpm {
namespace {

constexpr std::string_view kUtcShape = "0000-00-00T00:00:00Z";

// `text` is digits only.
unsigned number(std::string_view text) {
    unsigned value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

bool digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

std::string to_hex(ByteView bytes) { return fmt::format("{:02x}", fmt::join(bytes, "")); }

std::optional<Bytes> from_hex(std::string_view text) {
    Bytes bytes(text.size() / 2);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        const char *at = text.data() + 2 * i;
        if (std::from_chars(at, at + 2, bytes[i], 16).ptr != at + 2) return std::nullopt;
    }
    if (to_hex(bytes) != text) return std::nullopt;
    return bytes;
}

std::string to_base64(ByteView bytes) {
    std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');  // EVP_EncodeBlock ends it with a NUL
    // OpenSSL's text is of unsigned char; char may alias it.
    EVP_EncodeBlock(reinterpret_cast<unsigned char *>(text.data()), bytes.data(), static_cast<int>(bytes.size()));
    text.pop_back();
    return text;
}

// EVP_DecodeBlock also takes what is not canonical: the comparison does not.
std::optional<Bytes> from_base64(std::string_view text) {
    Bytes bytes(3 * (text.size() / 4));
    const auto padding = static_cast<std::size_t>(std::ranges::count(text, '='));
    const int size = EVP_DecodeBlock(bytes.data(), reinterpret_cast<const unsigned char *>(text.data()),
                                     static_cast<int>(text.size()));
    if (size < 0 || static_cast<std::size_t>(size) != bytes.size() || padding > bytes.size()) return std::nullopt;
    bytes.resize(bytes.size() - padding);
    if (to_base64(bytes) != text) return std::nullopt;
    return bytes;
}

std::string to_utc(std::int64_t seconds) {
    require(seconds >= 0 && seconds <= kLastUtc, "a time has a year of four digits");
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(seconds));
}

std::optional<std::int64_t> from_utc(std::string_view text) {
    const auto fits = [](char shape, char c) { return shape == '0' ? digit(c) : c == shape; };
    if (!std::ranges::equal(kUtcShape, text, fits)) return std::nullopt;
    const std::chrono::year_month_day date(std::chrono::year(static_cast<int>(number(text.substr(0, 4)))),
                                           std::chrono::month(number(text.substr(5, 2))),
                                           std::chrono::day(number(text.substr(8, 2))));
    const std::chrono::hours hour(number(text.substr(11, 2)));
    const std::chrono::minutes minute(number(text.substr(14, 2)));
    const std::chrono::seconds second(number(text.substr(17, 2)));
    if (!date.ok() || date.year() < std::chrono::year(1970) || hour.count() > 23 || minute.count() > 59 ||
        second.count() > 59)
        return std::nullopt;
    return (std::chrono::sys_days(date).time_since_epoch() + hour + minute + second).count();
}

}  // namespace vtpm
