// SPDX-License-Identifier: Apache-2.0
#include "launch/boot_image.hpp"

#include <algorithm>
#include <array>

#include "launch/cpio.hpp"
#include "launch/pe_image.hpp"

namespace vtpm::launch {
namespace {

// systemd's src/fundamental/uki.h, whose order is that of the measurements. Not here: .dtbauto and .efifw, of which
// systemd-stub takes what fits the machine, so none on Xen.
constexpr std::array<std::string_view, 13> kUkiSections{".linux",   ".osrel",   ".cmdline", ".initrd", ".ucode",
                                                        ".splash",  ".dtb",     ".uname",   ".sbat",   ".pcrsig",
                                                        ".pcrpkey", ".profile", ".hwids"};
constexpr std::size_t kMaxCommandLine = 64UL * 1024;
constexpr std::size_t kMaxKeyOrSignature = 1024UL * 1024;

bool is_in(std::string_view name, const PeSection &section) { return section.name == name; }

Extent as_loaded(const PeSection &section) {
    const std::uint32_t in_file = std::min(section.raw_size, section.virtual_size);
    return {in_file == 0 ? 0 : section.raw_offset, in_file, section.virtual_size - in_file};
}

Result<std::vector<UkiSection>> uki_sections(const PeImage &image) {
    std::vector<UkiSection> sections;
    for (const std::string_view name : kUkiSections) {
        const auto named = [name](const PeSection &section) { return is_in(name, section); };
        const auto count = std::ranges::count_if(image.sections, named);
        if (count == 0) continue;
        if (count > 1)
            return fail(ErrorCode::kInvalid, "the UKI has {} sections {}; one with several profiles cannot be started",
                        count, name);
        const PeSection &section = *std::ranges::find_if(image.sections, named);
        if (section.virtual_size == 0) return fail(ErrorCode::kInvalid, "the UKI's section {} is empty", name);
        sections.push_back({section.name, as_loaded(section)});
    }
    return sections;
}

// Authenticode's part of a PE image, which may end in zeros that are not in the file; all of another file.
Result<Extents> hashed_part(ByteView file, const Extent &where) {
    const ByteView image = file.subspan(where.offset, where.size);
    if (!claims_pe(image)) return Extents{where};
    VTPM_ASSIGN(PeImage pe, read_pe(image, where.length()));
    for (Extent &extent : pe.authenticode) extent.offset += where.offset;
    return std::move(pe.authenticode);
}

Result<> check_all(const BootImage &image, std::uint64_t size) {
    Extents all = image.hashed;
    if (image.uki)
        for (const UkiSection &section : image.uki->sections) all.push_back(section.content);
    VTPM_TRY(checked_length(all, size));
    return {};
}

// The stub puts archives behind one another at multiples of four bytes.
void align(Extents &parts) {
    if (!parts.empty()) parts.back().zeros += (4 - parts.back().length() % 4) % 4;
}

// An archive that puts a section's content where systemd looks for it: /.extra/NAME.
Result<> add_archive(ByteView file, const Uki &uki, std::string_view section, std::string_view name, Bytes &archives) {
    const Extent *content = uki.find(section);
    if (content == nullptr) return {};
    if (content->length() > kMaxKeyOrSignature)
        return fail(ErrorCode::kInvalid, "the UKI's section {} is larger than a MiB", section);
    const ByteView in_file = file.subspan(content->offset, content->size);
    Bytes bytes(in_file.begin(), in_file.end());
    bytes.resize(content->length());
    const Bytes archive = cpio_archive(".extra", name, bytes);
    archives.insert(archives.end(), archive.begin(), archive.end());
    return {};
}

}  // namespace

const Extent *Uki::find(std::string_view name) const {
    const auto found = std::ranges::find(sections, name, &UkiSection::name);
    return found != sections.end() ? &found->content : nullptr;
}

Result<BootImage> read_boot_image(ByteView file) {
    BootImage boot;
    if (!claims_pe(file)) {
        boot.hashed = {{0, file.size(), 0}};
        return boot;
    }
    VTPM_ASSIGN(PeImage image, read_pe(file));
    boot.hashed = std::move(image.authenticode);
    if (std::ranges::none_of(image.sections, [](const auto &section) { return is_in(".linux", section); })) return boot;
    VTPM_ASSIGN(auto sections, uki_sections(image));
    Uki &uki = boot.uki.emplace(Uki{std::move(sections), {}});
    VTPM_ASSIGN(uki.kernel_hashed, hashed_part(file, *uki.find(".linux")));
    VTPM_TRY(check_all(boot, file.size()));
    return boot;
}

Result<std::string> command_line_of(ByteView file, const Uki &uki) {
    const Extent *content = uki.find(".cmdline");
    if (content == nullptr) return std::string();
    const ByteView bytes = file.subspan(content->offset, content->size);
    const ByteView text = bytes.first(static_cast<std::size_t>(std::ranges::find(bytes, 0) - bytes.begin()));
    if (text.size() > kMaxCommandLine) return fail(ErrorCode::kInvalid, "the UKI's command line is too long");
    std::string line;
    for (const std::uint8_t byte : text) line += byte < ' ' ? ' ' : static_cast<char>(byte);
    line.erase(line.find_last_not_of(' ') + 1);
    line.erase(0, line.find_first_not_of(' '));
    return line;
}

Result<UkiInitrd> initrd_of(ByteView file, const Uki &uki) {
    UkiInitrd initrd;
    for (const char *name : {".ucode", ".initrd"})
        if (const Extent *content = uki.find(name)) {
            align(initrd.parts);
            initrd.parts.push_back(*content);
        }
    VTPM_TRY(add_archive(file, uki, ".pcrsig", "tpm2-pcr-signature.json", initrd.archives));
    VTPM_TRY(add_archive(file, uki, ".pcrpkey", "tpm2-pcr-public-key.pem", initrd.archives));
    if (!initrd.archives.empty()) align(initrd.parts);
    return initrd;
}

}  // namespace vtpm::launch
