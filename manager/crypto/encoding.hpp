// SPDX-License-Identifier: Apache-2.0
// Bytes and times as text. Each value has one text only: what the readers take is what the writers give.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.hpp"

namespace vtpm {

// Lower case.
std::string to_hex(ByteView bytes);
std::optional<Bytes> from_hex(std::string_view text);

// RFC 4648, 4: with padding, in one line.
std::string to_base64(ByteView bytes);
std::optional<Bytes> from_base64(std::string_view text);

// Seconds since 1970 as RFC 3339 writes them in UTC: "2027-01-31T23:59:59Z". Years 1970 to 9999.
constexpr std::int64_t kLastUtc = 253'402'300'799;
std::string to_utc(std::int64_t seconds);
std::optional<std::int64_t> from_utc(std::string_view text);

}  // namespace vtpm
