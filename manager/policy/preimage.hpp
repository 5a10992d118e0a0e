// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "base/bytes.hpp"

namespace vtpm {

// What is hashed or signed: in one form for one content. Numbers are big endian.
class Preimage {
public:
    // `kind`: what it is, NUL included, so that no preimage begins as one of another kind does. Empty: a TPM says how.
    explicit Preimage(std::string_view kind = {}) { raw(bytes_of(kind)); }
    Preimage &raw(ByteView bytes) {
        bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
        return *this;
    }
    Preimage &number(std::uint64_t value, int size) {
        for (int shift = 8 * (size - 1); shift >= 0; shift -= 8)
            bytes_.push_back(static_cast<std::uint8_t>(value >> shift));
        return *this;
    }
    // With its length, so that no byte can pass from one field to the next.
    Preimage &field(ByteView bytes) { return number(bytes.size(), 4).raw(bytes); }
    [[nodiscard]] const Bytes &bytes() const { return bytes_; }

private:
    Bytes bytes_;
};

}  // namespace vtpm
