// SPDX-License-Identifier: Apache-2.0
// Numbers as TPMs write them, and what is made of them: commands, structures, and what is hashed or signed. In one form
// for one content. (The messages between the processes are little endian: shared-protocol/codec.hpp.)
#pragma once

#include <cstdint>
#include <string_view>

#include "base/bytes.hpp"

namespace vtpm {

class BigEndian {
public:
    BigEndian() = default;
    // `kind`: what is to be hashed, NUL included, so that it never begins as something of another kind does.
    explicit BigEndian(std::string_view kind) { raw(bytes_of(kind)); }
    BigEndian &u8(std::uint8_t value) { return number(value, 1); }
    BigEndian &u16(std::uint16_t value) { return number(value, 2); }
    BigEndian &u32(std::uint32_t value) { return number(value, 4); }
    BigEndian &number(std::uint64_t value, int size) {
        for (int shift = 8 * (size - 1); shift >= 0; shift -= 8)
            bytes_.push_back(static_cast<std::uint8_t>(value >> shift));
        return *this;
    }
    BigEndian &raw(ByteView bytes) {
        bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
        return *this;
    }
    // With their length in two bytes: a TPM2B.
    BigEndian &sized(ByteView bytes) { return number(bytes.size(), 2).raw(bytes); }
    // With their length in four, so that no byte can pass from one field to the next.
    BigEndian &field(ByteView bytes) { return number(bytes.size(), 4).raw(bytes); }
    [[nodiscard]] const Bytes &bytes() const { return bytes_; }

private:
    Bytes bytes_;
};

// Of at most eight bytes.
inline std::uint64_t big_endian(ByteView bytes) {
    std::uint64_t value = 0;
    for (const std::uint8_t byte : bytes) value = value << 8 | byte;
    return value;
}

}  // namespace vtpm
