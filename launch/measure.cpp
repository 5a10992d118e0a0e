// SPDX-License-Identifier: Apache-2.0
#include "launch/measure.hpp"

namespace vtpm::launch {
namespace {

Result<MeasuredUki> measure_uki(ByteView file, const Uki &uki, const Banks &banks) {
    MeasuredUki measured;
    for (const UkiSection &section : uki.sections) {
        if (!is_measured(section)) continue;
        VTPM_ASSIGN(Digests content, digests_of(file, {section.content}, banks));
        measured.sections.push_back({section.name, std::move(content)});
    }
    const Extent *kernel = uki.find(".linux");
    if (kernel == nullptr) return fail(ErrorCode::kInvalid, "the UKI has no kernel");
    VTPM_ASSIGN(measured.kernel.digests, digests_of(file, uki.kernel_hashed, banks));
    measured.kernel.size = kernel->length();
    return measured;
}

Result<> measure_parts_of_uki(const LaunchFiles &files, const Uki &uki, MeasuredLaunch &launch) {
    if (files.initrd)
        return fail(ErrorCode::kInvalid, "a UKI has its own initrd: remove the other one (ramdisk=, --initrd)");
    VTPM_ASSIGN(launch.uki, measure_uki(files.image, uki, launch.banks));
    VTPM_ASSIGN(const std::string own, command_line_of(files.image, uki));
    launch.uki->command_line_replaced = !launch.command_line.empty() && launch.command_line != own;
    if (launch.command_line.empty()) launch.command_line = own;
    VTPM_ASSIGN(const UkiInitrd initrd, initrd_of(files.image, uki));
    if (initrd.empty()) return {};
    VTPM_ASSIGN(launch.initrd, digests_of(files.image, initrd.parts, launch.banks, initrd.archives));
    return {};
}

// Of a UKI that comes from elsewhere, all is read by these.
Result<> check_extents(ByteView file, const BootImage &image) {
    VTPM_TRY(checked_length(image.hashed, file.size()));
    if (!image.uki) return {};
    for (const UkiSection &section : image.uki->sections) VTPM_TRY(checked_length({section.content}, file.size()));
    VTPM_TRY(checked_length(image.uki->kernel_hashed, file.size()));
    return {};
}

// libxl skips what is space before an item of a boot loader's answer: the guest gets no other line than is measured.
std::string_view without_leading_space(std::string_view line) {
    const std::size_t begin = line.find_first_not_of(" \t\n\v\f\r");
    return begin == std::string_view::npos ? std::string_view() : line.substr(begin);
}

}  // namespace

Result<MeasuredLaunch> measure(const LaunchFiles &files, const BootImage &image, const Banks &banks) {
    if (files.image.empty()) return fail(ErrorCode::kInvalid, "the kernel is an empty file");
    VTPM_TRY(check_extents(files.image, image));
    MeasuredLaunch launch;
    launch.banks = banks;
    launch.command_line = without_leading_space(files.command_line);
    VTPM_ASSIGN(launch.image.digests, digests_of(files.image, image.hashed, banks));
    launch.image.size = files.image.size();
    if (image.uki) {
        VTPM_TRY(measure_parts_of_uki(files, *image.uki, launch));
    } else if (files.initrd) {
        VTPM_ASSIGN(launch.initrd, digests_of(*files.initrd, {{0, files.initrd->size(), 0}}, banks));
    }
    return launch;
}

}  // namespace vtpm::launch
