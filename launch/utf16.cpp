// SPDX-License-Identifier: Apache-2.0
// Not iconv(3): its UTF-16 is a module that is loaded from files, and not everywhere installed.
#include "launch/utf16.hpp"

#include <array>
#include <cstdint>
#include <optional>

namespace vtpm::launch {
namespace {

struct Utf8Length {
    std::uint8_t mask;    // of the first byte
    std::uint8_t value;   // that it has under the mask
    std::size_t more;     // bytes that follow
    std::uint32_t least;  // a smaller number has a shorter form
};
constexpr std::array kUtf8Lengths{Utf8Length{0x80, 0x00, 0, 0}, Utf8Length{0xe0, 0xc0, 1, 0x80},
                                  Utf8Length{0xf0, 0xe0, 2, 0x800}, Utf8Length{0xf8, 0xf0, 3, 0x10000}};
constexpr std::uint32_t kLastCharacter = 0x10ffff;

bool is_surrogate(std::uint32_t character) { return character >= 0xd800 && character <= 0xdfff; }

// Takes the first character off `text`.
std::optional<std::uint32_t> take_character(ByteView &text) {
    for (const auto &[mask, value, more, least] : kUtf8Lengths) {
        if ((text[0] & mask) != value) continue;
        if (text.size() <= more) return std::nullopt;
        std::uint32_t character = text[0] & ~mask & 0xffU;
        for (const std::uint8_t byte : text.subspan(1, more)) {
            if ((byte & 0xc0) != 0x80) return std::nullopt;
            character = character << 6 | (byte & 0x3fU);
        }
        text = text.subspan(1 + more);
        const bool good = character >= least && character <= kLastCharacter && !is_surrogate(character);
        return good ? std::optional(character) : std::nullopt;
    }
    return std::nullopt;
}

void put_unit(Bytes &out, std::uint32_t unit) {
    out.push_back(static_cast<std::uint8_t>(unit));
    out.push_back(static_cast<std::uint8_t>(unit >> 8));
}

}  // namespace

Result<Bytes> utf16(std::string_view text) {
    Bytes out;
    for (ByteView left = bytes_of(text); !left.empty();) {
        const auto character = take_character(left);
        if (!character) return fail(ErrorCode::kInvalid, "it is no UTF-8 text");
        if (*character < 0x10000) {
            put_unit(out, *character);
        } else {
            put_unit(out, 0xd800 + ((*character - 0x10000) >> 10));
            put_unit(out, 0xdc00 + ((*character - 0x10000) & 0x3ff));
        }
    }
    put_unit(out, 0);
    return out;
}

}  // namespace vtpm::launch
