// SPDX-License-Identifier: Apache-2.0
// PE images for tests: as a linker makes them, and with whatever lie a test puts in.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.hpp"

namespace vtpm::launch {

struct TestSection {
    std::string name;
    Bytes content;
    std::optional<std::uint32_t> virtual_size{};  // the content's size
    std::optional<std::uint32_t> raw_offset{};    // behind the last one
    std::optional<std::uint32_t> raw_size{};      // the content's size, to the next multiple of 512
};

// Offsets in the images that pe_image() makes.
struct PeOffsets {
    static constexpr std::size_t kPe = 0x40;
    static constexpr std::size_t kSections = kPe + 6;
    static constexpr std::size_t kOptionalSize = kPe + 20;
    static constexpr std::size_t kOptional = kPe + 24;
    static constexpr std::size_t kSizeOfHeaders = kOptional + 60;
    static constexpr std::size_t kChecksum = kOptional + 64;
    static constexpr std::size_t kDirectoryCount = kOptional + 108;
    static constexpr std::size_t kCertificates = kOptional + 112 + 8 * std::size_t{4};
    static constexpr std::size_t kTable = kOptional + 240;
};

inline void put(Bytes &bytes, std::size_t offset, std::uint64_t value, std::size_t size) {
    if (bytes.size() < offset + size) bytes.resize(offset + size);
    for (std::size_t i = 0; i < size; ++i) bytes[offset + i] = static_cast<std::uint8_t>(value >> (8 * i));
}

// PE32+, headers of 0x400 bytes, and behind the sections `rest` and `signatures`.
inline Bytes pe_image(const std::vector<TestSection> &sections, const Bytes &rest = {}, const Bytes &signatures = {}) {
    constexpr std::uint32_t kHeaders = 0x400;
    Bytes image(kHeaders);
    put(image, 0, 0x5a4d, 2);
    put(image, 0x3c, PeOffsets::kPe, 4);
    put(image, PeOffsets::kPe, 0x4550, 4);
    put(image, PeOffsets::kPe + 4, 0x8664, 2);
    put(image, PeOffsets::kSections, sections.size(), 2);
    put(image, PeOffsets::kOptionalSize, 240, 2);
    put(image, PeOffsets::kOptional, 0x20b, 2);
    put(image, PeOffsets::kSizeOfHeaders, kHeaders, 4);
    put(image, PeOffsets::kChecksum, 0xabad1dea, 4);
    put(image, PeOffsets::kDirectoryCount, 16, 4);
    std::size_t entry = PeOffsets::kTable;
    for (const TestSection &section : sections) {
        const auto at = section.raw_offset.value_or(static_cast<std::uint32_t>(image.size()));
        const auto size =
            section.raw_size.value_or((static_cast<std::uint32_t>(section.content.size()) + 511) / 512 * 512);
        for (std::size_t i = 0; i < 8; ++i)
            put(image, entry + i, i < section.name.size() ? static_cast<std::uint8_t>(section.name[i]) : 0, 1);
        put(image, entry + 8, section.virtual_size.value_or(static_cast<std::uint32_t>(section.content.size())), 4);
        put(image, entry + 12, 0x1000, 4);
        put(image, entry + 16, size, 4);
        put(image, entry + 20, at, 4);
        entry += 40;
        if (section.raw_offset) continue;
        image.insert(image.end(), section.content.begin(), section.content.end());
        image.resize(at + static_cast<std::size_t>(size));
    }
    image.insert(image.end(), rest.begin(), rest.end());
    if (!signatures.empty()) {
        put(image, PeOffsets::kCertificates, image.size(), 4);
        put(image, PeOffsets::kCertificates + 4, signatures.size(), 4);
        image.insert(image.end(), signatures.begin(), signatures.end());
    }
    return image;
}

inline Bytes test_text(std::string_view text) { return {text.begin(), text.end()}; }

// A kernel, as far as its headers say.
inline Bytes test_kernel() {
    return pe_image({{".setup", Bytes(700, 0x11)}, {".text", Bytes(3000, 0x22)}}, Bytes(24, 0x33));
}

// All sections of systemd-stub's that a UKI for Xen may have, not in its order.
inline std::vector<TestSection> uki_parts() {
    return {{".text", Bytes(100, 0x90)},
            {".osrel", test_text("ID=debian\n")},
            {".uname", test_text("6.1.0-test")},
            {".cmdline", test_text("root=/dev/xvda1 ro\n")},
            {".initrd", Bytes(1001, 0x44)},
            {".linux", test_kernel()},
            {".sbat", test_text("sbat,1\n")},
            {".pcrsig", test_text("{\"sha256\":[]}")},
            {".pcrpkey", test_text("-----BEGIN PUBLIC KEY-----\n")}};
}
inline Bytes test_uki() { return pe_image(uki_parts()); }

}  // namespace vtpm::launch
