// SPDX-License-Identifier: Apache-2.0
// The bounded wire codec: little endian, no padding, no heap. Reading past the end or writing past the buffer makes
// the codec fail for good; a message is good only if it was consumed to its last byte.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/bytes.hpp"
#include "base/uuid.hpp"

namespace vtpm {

class Encoder {
public:
    explicit Encoder(MutableBytes out) : out_(out) {}

    void u8(std::uint8_t value) { integer(value, 1); }
    void u16(std::uint16_t value) { integer(value, 2); }
    void u32(std::uint32_t value) { integer(value, 4); }
    void u64(std::uint64_t value) { integer(value, 8); }
    void uuid(const Uuid &value) { raw(value.bytes); }
    void raw(ByteView bytes);
    // A 32-bit length, then the bytes.
    void bytes(ByteView value);
    // A text of at most `limit` bytes; a longer one is cut.
    void text(std::string_view value, std::size_t limit);

    // What was written, or nothing at all if it did not fit.
    [[nodiscard]] ByteView message() const { return failed_ ? ByteView{} : ByteView(out_.first(used_)); }

private:
    void integer(std::uint64_t value, std::size_t size);
    MutableBytes out_;
    std::size_t used_ = 0;
    bool failed_ = false;
};

class Decoder {
public:
    explicit Decoder(ByteView in) : in_(in) {}

    std::uint8_t u8() { return static_cast<std::uint8_t>(integer(1)); }
    std::uint16_t u16() { return static_cast<std::uint16_t>(integer(2)); }
    std::uint32_t u32() { return static_cast<std::uint32_t>(integer(4)); }
    std::uint64_t u64() { return integer(8); }
    Uuid uuid();
    ByteView raw(std::size_t size);
    // Borrowed from the message. Fails if the length exceeds `limit`.
    ByteView bytes(std::size_t limit);
    std::string_view text(std::size_t limit);
    // A value outside the protocol: the message is rejected.
    void reject() { failed_ = true; }

    [[nodiscard]] bool complete() const { return !failed_ && in_.empty(); }

private:
    std::uint64_t integer(std::size_t size);
    ByteView in_;
    bool failed_ = false;
};

}  // namespace vtpm
