// SPDX-License-Identifier: Apache-2.0
#include "launch/pe_image.hpp"

#include <algorithm>
#include <optional>

#include "launch/little_endian.hpp"

namespace vtpm::launch {
namespace {

// "PE Format": offsets from the beginning of the file, of the PE header, of the optional header.
constexpr std::size_t kDosHeader = 64;
constexpr std::size_t kOffsetOfPe = 0x3c;
constexpr std::uint32_t kPeSignature = 0x0000'4550;  // "PE\0\0"
constexpr std::size_t kFileHeader = 24;              // with the signature
constexpr std::size_t kSectionHeader = 40;
constexpr std::size_t kSizeOfHeaders = 60;
constexpr std::size_t kChecksum = 64;
constexpr std::size_t kDirectories32 = 96;
constexpr std::size_t kDirectories64 = 112;
constexpr std::uint16_t kMagic32 = 0x10b;
constexpr std::uint16_t kMagic64 = 0x20b;
constexpr std::uint32_t kCertificates = 4;   // the number of this data directory
constexpr std::uint16_t kMostSections = 96;  // as Windows' loader

tl::unexpected<Error> bad_pe(const char *why) { return fail(ErrorCode::kInvalid, "the PE image is damaged: {}", why); }

template <std::unsigned_integral T>
std::optional<T> number_at(ByteView bytes, std::uint64_t offset) {
    if (offset > bytes.size()) return std::nullopt;
    return LittleEndianReader(bytes.subspan(offset)).number<T>();
}

// What of the headers matters here; offsets are from the file's beginning.
struct PeHeaders {
    std::uint64_t checksum = 0;
    std::uint64_t certificate_entry = 0;  // 0: there is no such directory
    std::uint32_t certificate_offset = 0;
    std::uint32_t certificate_size = 0;
    std::uint64_t section_table = 0;
    std::uint16_t sections = 0;
    std::uint32_t size = 0;  // of all headers
};

Result<> take_certificates(ByteView file, std::uint64_t directories, PeHeaders &headers) {
    const auto count = number_at<std::uint32_t>(file, directories - 4);
    if (!count) return bad_pe("its optional header is cut off");
    if (*count <= kCertificates) return {};
    headers.certificate_entry = directories + std::uint64_t{8} * kCertificates;
    const auto offset = number_at<std::uint32_t>(file, headers.certificate_entry);
    const auto size = number_at<std::uint32_t>(file, headers.certificate_entry + 4);
    if (!offset || !size) return bad_pe("its data directories are cut off");
    headers.certificate_offset = *offset;
    headers.certificate_size = *size;
    return {};
}

Result<PeHeaders> take_headers(ByteView file) {
    const auto pe = number_at<std::uint32_t>(file, kOffsetOfPe);
    if (!pe || *pe < kDosHeader / 2 || number_at<std::uint32_t>(file, *pe) != kPeSignature)
        return bad_pe("it has no PE header");
    PeHeaders headers;
    const std::uint64_t optional_header = std::uint64_t{*pe} + kFileHeader;
    const auto sections = number_at<std::uint16_t>(file, *pe + 6ULL);
    const auto optional_size = number_at<std::uint16_t>(file, *pe + 20ULL);
    const auto magic = number_at<std::uint16_t>(file, optional_header);
    const auto size = number_at<std::uint32_t>(file, optional_header + kSizeOfHeaders);
    if (!sections || !optional_size || !magic || !size) return bad_pe("its headers are cut off");
    if (*magic != kMagic32 && *magic != kMagic64) return bad_pe("its optional header is of an unknown kind");
    headers.sections = *sections;
    headers.section_table = optional_header + *optional_size;
    headers.size = *size;
    headers.checksum = optional_header + kChecksum;
    const std::uint64_t directories = optional_header + (*magic == kMagic64 ? kDirectories64 : kDirectories32);
    VTPM_TRY(take_certificates(file, directories, headers));
    const std::uint64_t needed = headers.certificate_entry != 0 ? headers.certificate_entry + 8 : directories;
    if (needed > headers.section_table) return bad_pe("its optional header is shorter than what it has");
    if (headers.sections == 0 || headers.sections > kMostSections) return bad_pe("it has no sections, or too many");
    if (headers.section_table + headers.sections * kSectionHeader > headers.size || headers.size > file.size())
        return bad_pe("its headers do not have the size that they say");
    return headers;
}

PeSection section_at(ByteView table) {
    LittleEndianReader reader(table);
    PeSection section;
    const ByteView name = *reader.take(8);
    for (const std::uint8_t byte : name.first(static_cast<std::size_t>(std::ranges::find(name, 0) - name.begin())))
        section.name += static_cast<char>(byte);
    section.virtual_size = *reader.number<std::uint32_t>();
    (void)reader.number<std::uint32_t>();  // where it is loaded
    section.raw_size = *reader.number<std::uint32_t>();
    section.raw_offset = *reader.number<std::uint32_t>();
    return section;
}

std::vector<PeSection> take_sections(ByteView file, const PeHeaders &headers) {
    std::vector<PeSection> sections;
    for (std::size_t i = 0; i < headers.sections; ++i)
        sections.push_back(section_at(file.subspan(headers.section_table + i * kSectionHeader, kSectionHeader)));
    return sections;
}

// Step 8 on: the headers without checksum and the certificates' entry. Without the entry, all behind the checksum.
Extents hashed_headers(const PeHeaders &headers) {
    Extents extents{{0, headers.checksum, 0}};
    const std::uint64_t after_checksum = headers.checksum + 4;
    if (headers.certificate_entry == 0) {
        extents.push_back({after_checksum, headers.size - after_checksum, 0});
        return extents;
    }
    const std::uint64_t after_entry = headers.certificate_entry + 8;
    extents.push_back({after_checksum, headers.certificate_entry - after_checksum, 0});
    extents.push_back({after_entry, headers.size - after_entry, 0});
    return extents;
}

// In the order of the file. A byte in no section would be in nobody's hash, and Xen's loader might still take it: it
// does not read an image by its PE headers.
Result<std::uint64_t> add_sections(ByteView file, std::vector<PeSection> sections, std::uint64_t end,
                                   Extents &extents) {
    std::erase_if(sections, [](const PeSection &section) { return section.raw_size == 0; });
    std::ranges::sort(sections, {}, &PeSection::raw_offset);
    for (const PeSection &section : sections) {
        if (section.raw_offset < end) return bad_pe("its sections overlap");
        if (section.raw_offset > end) return bad_pe("there are bytes between its sections, which nothing measures");
        if (section.raw_size > file.size() - end) return bad_pe("a section ends behind the file");
        extents.push_back({end, section.raw_size, 0});
        end += section.raw_size;
    }
    return end;
}

// What is behind the sections, but the signatures, which end the file.
Result<> add_rest(ByteView file, std::uint64_t length, const PeHeaders &headers, std::uint64_t end, Extents &extents) {
    std::uint64_t rest = length - end;
    if (headers.certificate_size != 0) {
        if (headers.certificate_size > rest || headers.certificate_offset != length - headers.certificate_size)
            return bad_pe("its signatures are not at its end");
        rest -= headers.certificate_size;
    }
    if (rest == 0) return {};
    const std::uint64_t in_file = std::min(rest, file.size() - end);
    extents.push_back({end, in_file, rest - in_file});
    return {};
}

}  // namespace

bool claims_pe(ByteView file) { return file.size() >= 2 && file[0] == 'M' && file[1] == 'Z'; }

Result<PeImage> read_pe(ByteView file, std::uint64_t length) {
    if (!claims_pe(file) || length < file.size()) return bad_pe("it does not begin as one");
    VTPM_ASSIGN(const PeHeaders headers, take_headers(file));
    PeImage image{hashed_headers(headers), take_sections(file, headers)};
    VTPM_ASSIGN(const std::uint64_t end, add_sections(file, image.sections, headers.size, image.authenticode));
    VTPM_TRY(add_rest(file, length, headers, end, image.authenticode));
    return image;
}

}  // namespace vtpm::launch
