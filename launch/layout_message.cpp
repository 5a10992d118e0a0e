// SPDX-License-Identifier: Apache-2.0
#include "launch/layout_message.hpp"

#include <algorithm>
#include <array>

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

// As a file is hashed, or a PE image (pe_image.hpp): from its beginning, in its order, all of it; or without the
// checksum, or without that and the signatures with their entry. Zeros come behind all.
bool is_all_of(const Extents &extents, const Extent &where) {
    constexpr std::array<std::uint64_t, 2> kLeftOut{4, 8};  // checksum; data directory entry
    std::uint64_t at = where.offset;
    const std::uint64_t end = where.offset + where.size;
    std::size_t gaps = 0;
    for (const Extent &extent : extents) {
        if (extent.zeros != 0 && &extent != &extents.back()) return false;
        if (extent.offset < at || extent.offset > end || extent.size > end - extent.offset) return false;
        if (extent.offset > at &&
            (at == where.offset || gaps == kLeftOut.size() || extent.offset - at != kLeftOut.at(gaps++)))
            return false;
        at = extent.offset + extent.size;
    }
    return !extents.empty() && (at == end || gaps == kLeftOut.size());
}

// What is booted of it is in what is hashed of the whole.
bool is_section(const UkiSection &section, const Extents &hashed) {
    const Extent &content = section.content;
    return section.name.starts_with('.') && legible(section.name) == section.name &&
           (content.size == 0 || std::ranges::any_of(hashed, [&](const Extent &part) {
                return content.offset >= part.offset && content.size <= part.size &&
                       content.offset - part.offset <= part.size - content.size;
            }));
}

bool is_true_of(const BootImage &image, std::uint64_t file_size) {
    if (!checked_length(image.hashed, file_size) || !is_all_of(image.hashed, {0, file_size, 0})) return false;
    if (!image.uki) return true;
    Extents all = image.uki->kernel_hashed;
    for (const UkiSection &section : image.uki->sections) all.push_back(section.content);
    const Extent *kernel = image.uki->find(".linux");
    return kernel != nullptr && checked_length(all, file_size).has_value() &&
           is_all_of(image.uki->kernel_hashed, *kernel) &&
           std::ranges::all_of(image.uki->sections,
                               [&](const UkiSection &section) { return is_section(section, image.hashed); });
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
    if (has_uki > 1 || !in.complete() || !is_true_of(image, file_size)) return bad();
    return image;
}

}  // namespace vtpm::launch
