// SPDX-License-Identifier: Apache-2.0
#include "shared-protocol/codec.hpp"

#include <algorithm>
#include <cstring>

namespace vtpm {

void Encoder::raw(ByteView bytes) {
    if (failed_ || bytes.size() > out_.size() - used_) {
        failed_ = true;
        return;
    }
    std::copy(bytes.begin(), bytes.end(), out_.begin() + static_cast<std::ptrdiff_t>(used_));
    used_ += bytes.size();
}

void Encoder::bytes(ByteView value) {
    u32(static_cast<std::uint32_t>(value.size()));
    raw(value);
}

void Encoder::text(std::string_view value, std::size_t limit) {
    value = value.substr(0, limit);
    // Text is bytes on the wire; char and unsigned char may alias.
    bytes(bytes_of(value));
}

void Encoder::integer(std::uint64_t value, std::size_t size) {
    std::uint8_t little[8];
    for (std::size_t i = 0; i < size; ++i) little[i] = static_cast<std::uint8_t>(value >> (8 * i));
    raw({little, size});
}

ByteView Decoder::raw(std::size_t size) {
    if (failed_ || size > in_.size()) {
        failed_ = true;
        return {};
    }
    const ByteView taken = in_.first(size);
    in_ = in_.subspan(size);
    return taken;
}

ByteView Decoder::bytes(std::size_t limit) {
    const std::uint32_t size = u32();
    if (size > limit) failed_ = true;
    return raw(size);
}

std::string_view Decoder::text(std::size_t limit) {
    const ByteView view = bytes(limit);
    // The reverse of Encoder::text.
    return {reinterpret_cast<const char *>(view.data()), view.size()};
}

Uuid Decoder::uuid() {
    Uuid value;
    const ByteView view = raw(Uuid::kSize);
    std::copy(view.begin(), view.end(), value.bytes.begin());
    return value;
}

std::uint64_t Decoder::integer(std::size_t size) {
    std::uint64_t value = 0;
    const ByteView view = raw(size);
    for (std::size_t i = 0; i < view.size(); ++i) value |= std::uint64_t{view[i]} << (8 * i);
    return value;
}

}  // namespace vtpm
