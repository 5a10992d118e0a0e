// SPDX-License-Identifier: Apache-2.0
// What the bytes of a fuzzer's input say to a target that plays steps; zeroes follow their end.
#pragma once

#include <array>
#include <cstdint>

#include "base/bytes.hpp"

namespace vtpm {

class Input {
public:
    explicit Input(ByteView bytes) : left_(bytes) {}

    [[nodiscard]] bool empty() const { return left_.empty(); }
    std::uint8_t byte() {
        if (left_.empty()) return 0;
        const std::uint8_t first = left_.front();
        left_ = left_.subspan(1);
        return first;
    }
    std::uint16_t word() {
        const unsigned high = byte();
        return static_cast<std::uint16_t>(high << 8 | byte());
    }
    // Of at most 256.
    std::size_t below(std::size_t count) { return byte() % count; }
    template <typename T, std::size_t kCount>
    const T &one_of(const std::array<T, kCount> &choices) {
        return choices[below(kCount)];
    }
    Bytes bytes(std::size_t count) {
        Bytes result(count);
        for (std::uint8_t &byte_of_it : result) byte_of_it = byte();
        return result;
    }

private:
    ByteView left_;
};

// What the hostile side has done, in all inputs of this process.
inline std::uint64_t steps_done = 0;

}  // namespace vtpm
