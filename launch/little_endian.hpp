// SPDX-License-Identifier: Apache-2.0
// Numbers as firmware writes them: little endian. A read beyond the end gives nothing, and leaves nothing.
#pragma once

#include <concepts>
#include <optional>

#include "base/bytes.hpp"

namespace vtpm::launch {

class LittleEndianReader {
public:
    explicit LittleEndianReader(ByteView bytes) : left_(bytes) {}

    [[nodiscard]] bool done() const { return left_.empty(); }
    std::optional<ByteView> take(std::size_t size) {
        if (size > left_.size()) return std::nullopt;
        const ByteView taken = left_.first(size);
        left_ = left_.subspan(size);
        return taken;
    }
    template <std::unsigned_integral T>
    std::optional<T> number() {
        const auto bytes = take(sizeof(T));
        if (!bytes) return std::nullopt;
        T value = 0;
        for (std::size_t i = sizeof(T); i-- > 0;) value = static_cast<T>(value << 8 | (*bytes)[i]);
        return value;
    }

private:
    ByteView left_;
};

class LittleEndianWriter {
public:
    template <std::unsigned_integral T>
    LittleEndianWriter &number(T value) {
        for (std::size_t i = 0; i < sizeof(T); ++i) bytes_.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
        return *this;
    }
    LittleEndianWriter &raw(ByteView bytes) {
        bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
        return *this;
    }
    [[nodiscard]] const Bytes &bytes() const { return bytes_; }

private:
    Bytes bytes_;
};

}  // namespace vtpm::launch
