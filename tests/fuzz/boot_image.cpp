// SPDX-License-Identifier: Apache-2.0
// A kernel or a UKI from a guest's disk: what is read of it is within it, each byte is hashed once at most, and all
// that follows from it is bounded.
#include "launch/boot_image.hpp"

#include <algorithm>

#include "launch/events.hpp"
#include "launch/layout_message.hpp"

namespace {

using namespace vtpm::launch;

void check_disjoint(Extents extents) {
    std::ranges::sort(extents, {}, &Extent::offset);
    std::uint64_t end = 0;
    for (const Extent &extent : extents) {
        vtpm::require(extent.size == 0 || extent.offset >= end, "no byte is hashed twice");
        end = std::max(end, extent.offset + extent.size);
    }
}

// Zeros that are only claimed cost time, which is not what is looked for here.
bool is_small(const BootImage &image) {
    constexpr std::uint64_t kSmall = 1024UL * 1024;
    Extents all = image.hashed;
    if (image.uki)
        for (const UkiSection &section : image.uki->sections) all.push_back(section.content);
    return std::ranges::all_of(all, [](const Extent &extent) { return extent.length() <= kSmall; });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    using namespace vtpm;
    const ByteView file(data, size);
    (void)layout_in(file, 4096);
    const auto image = read_boot_image(file);
    const Bytes message = layout_message(image);
    if (!image) return 0;
    require(checked_length(image->hashed, size).has_value(), "what is hashed is in the file");
    check_disjoint(image->hashed);
    const auto told = layout_in(message, size);
    require(told && *told == *image, "what is told is what was read");
    if (!is_small(*image)) return 0;
    const auto launch = measure({file, std::nullopt}, *image, {Hash::kSha256});
    if (launch) (void)launch_events(*launch);
    return 0;
}
