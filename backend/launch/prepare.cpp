// SPDX-License-Identifier: Apache-2.0
#include "backend/launch/prepare.hpp"

#include "backend/launch/confined_reader.hpp"
#include "launch/event_log.hpp"
#include "launch/mapped_file.hpp"

namespace vtpm::launch {
namespace {

struct Copy {
    UniqueFd file;
    MappedFile content;
};

Result<Copy> copy_and_map(const UniqueFd &source, const PrivateDirectory &directory, const char *what) {
    VTPM_ASSIGN(UniqueFd file, copy_of(source, directory));
    VTPM_ASSIGN(MappedFile content, MappedFile::map(file.get(), what));
    return Copy{std::move(file), std::move(content)};
}

Result<> take_apart(const Copy &image, const Uki &uki, const PrivateDirectory &directory, Prepared &prepared) {
    const Extent *kernel = uki.find(".linux");
    if (kernel == nullptr) return fail(ErrorCode::kInvalid, "the UKI has no kernel");
    VTPM_ASSIGN(prepared.kernel, copy_of(image.file, {*kernel}, {}, directory));
    VTPM_ASSIGN(const UkiInitrd initrd, initrd_of(image.content.bytes(), uki));
    if (initrd.empty()) return {};
    VTPM_ASSIGN(prepared.ramdisk, copy_of(image.file, initrd.parts, initrd.archives, directory));
    return {};
}

Result<Bytes> log_of(const MeasuredLaunch &launch) {
    VTPM_ASSIGN(Events events, launch_events(launch));
    return write_event_log({launch.banks, std::move(events)});
}

}  // namespace

Result<Prepared> prepare(const GuestFiles &files, const PrivateDirectory &directory) {
    VTPM_ASSIGN(Copy image, copy_and_map(files.kernel, directory, "the kernel"));
    std::optional<Copy> ramdisk;
    if (files.ramdisk) {
        VTPM_ASSIGN(Copy copy, copy_and_map(*files.ramdisk, directory, "the initrd"));
        ramdisk.emplace(std::move(copy));
    }
    VTPM_ASSIGN(const BootImage boot, read_confined(image.content.bytes()));
    const LaunchFiles measured{image.content.bytes(), ramdisk ? std::optional(ramdisk->content.bytes()) : std::nullopt,
                               files.arguments};
    VTPM_ASSIGN(MeasuredLaunch launch, measure(measured, boot, all_banks()));
    Prepared prepared;
    VTPM_ASSIGN(prepared.log, log_of(launch));
    prepared.arguments = std::move(launch.command_line);
    if (boot.uki) {
        VTPM_TRY(take_apart(image, *boot.uki, directory, prepared));
        return prepared;
    }
    prepared.kernel = std::move(image.file);
    if (ramdisk) prepared.ramdisk = std::move(ramdisk->file);
    return prepared;
}

}  // namespace vtpm::launch
