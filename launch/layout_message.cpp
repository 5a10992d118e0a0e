// SPDX-License-Identifier: Apache-2.0
#include "launch/layout_message.hpp"

#include <algorithm>

#include "base/legible.hpp"
#include "shared-protocol/codec.hpp"

namespace vtpm::launch {
namespace {

constexpr std::size_t kMaxReason = 512;
constexpr std::size_t kMaxExtents = 128;
constexpr std::size_t kMaxUkiSections = 16;
constexpr std::size_t kMaxSectionName = 8;

void put_extent(Encoder &out, const Extent &extent) {
    out.u64(extent.offset);
    out.u64(extent.size);
    out.u64(extent.zeros);
}

void put_extents(Encoder &out, const Extents &extents) {
    out.u32(static_cast<std::uint32_t>(extents.size()));
    for (const Extent &extent : extents) put_extent(out, extent);
}

Extent get_extent(Decoder &in) {
    Extent extent;
    extent.offset = in.u64();
    extent.size = in.u64();
    extent.zeros = in.u64();
    return extent;
}

std::uint32_t get_count(Decoder &in, std::size_t limit) {
    const std::uint32_t count = in.u32();
    if (count <= limit) return count;
    in.reject();
    return 0;
}

Extents get_extents(Decoder &in) {
    Extents extents(get_count(in, kMaxExtents));
    for (Extent &extent : extents) extent = get_extent(in);
    return extents;
}

Uki get_uki(Decoder &in) {
    Uki uki;
    uki.sections.resize(get_count(in, kMaxUkiSections));
    for (UkiSection &section : uki.sections) {
        section.name = in.text(kMaxSectionName);
        section.content = get_extent(in);
    }
    uki.kernel_hashed = get_extents(in);
    return uki;
}

void put_uki(Encoder &out, const Uki &uki) {
    out.u32(static_cast<std::uint32_t>(uki.sections.size()));
    for (const UkiSection &section : uki.sections) {
        out.text(section.name, kMaxSectionName);
        put_extent(out, section.content);
    }
    put_extents(out, uki.kernel_hashed);
}

bool is_within(const BootImage &image, std::uint64_t file_size) {
    if (!checked_length(image.hashed, file_size)) return false;
    if (!image.uki) return true;
    Extents all;
    for (const UkiSection &section : image.uki->sections) all.push_back(section.content);
    return image.uki->find(".linux") != nullptr && checked_length(all, file_size).has_value() &&
           checked_length(image.uki->kernel_hashed, file_size).has_value() &&
           std::ranges::all_of(image.uki->sections, [](const UkiSection &section) {
               return section.name.starts_with('.') && legible(section.name) == section.name;
           });
}

}  // namespace

Bytes layout_message(const Result<BootImage> &image) {
    Bytes buffer(kMaxLayoutMessage);
    Encoder out(buffer);
    out.u16(static_cast<std::uint16_t>(image ? ErrorCode::kNone : image.error().code));
    if (!image) {
        out.text(image.error().text, kMaxReason);
    } else {
        put_extents(out, image->hashed);
        out.u8(image->uki ? 1 : 0);
        if (image->uki) put_uki(out, *image->uki);
    }
    buffer.resize(out.message().size());
    return buffer;
}

Result<BootImage> layout_in(ByteView message, std::uint64_t file_size) {
    const auto bad = [] {
        return fail(ErrorCode::kSystem, "the reader of the boot image does not answer as it should");
    };
    Decoder in(message);
    const std::uint16_t code = in.u16();
    if (code != 0) {
        const std::string reason = legible(std::string(in.text(kMaxReason)));
        if (!in.complete() || code > kErrorCodeLast) return bad();
        return fail(static_cast<ErrorCode>(code), "{}", reason);
    }
    BootImage image{get_extents(in), {}};
    const std::uint8_t has_uki = in.u8();
    if (has_uki == 1) image.uki = get_uki(in);
    if (has_uki > 1 || !in.complete() || !is_within(image, file_size)) return bad();
    return image;
}

}  // namespace vtpm::launch
