// SPDX-License-Identifier: Apache-2.0
#include "launch/events.hpp"

#include <string_view>

#include "launch/little_endian.hpp"
#include "launch/utf16.hpp"

namespace vtpm::launch {
namespace {

// UAPI.7, "Linux TPM PCR registry".
constexpr unsigned kFirmwareCode = 0;
constexpr unsigned kLoaderCode = 4;
constexpr unsigned kFirstSeparator = 0;
constexpr unsigned kLastSeparator = 7;
constexpr unsigned kLoaderCommands = 8;
constexpr unsigned kLoaderFiles = 9;
constexpr unsigned kUki = 11;
constexpr unsigned kKernelConfig = 12;
constexpr unsigned kSysexts = 13;

constexpr std::string_view kVersion = "xen-vtpm launch 1";
constexpr std::string_view kCalling = "Calling EFI Application from Boot Option";  // PFP 1.06, 10.4.4
constexpr std::string_view kNoUki = "xen-vtpm: no UKI";
constexpr std::string_view kNotMeasured = "xen-vtpm: launch not measured";

// PFP 1.06, 3.3.2.2 and 10.4.1: 0 (or FFFFFFFFh) ends the firmware's part, 1 says that there was an error.
constexpr std::uint32_t kSeparator = 0;
constexpr std::uint32_t kErrorSeparator = 1;

// Linux: include/linux/efi.h, drivers/firmware/efi/libstub/efi-stub-helper.c: efi_load_initrd(),
// efi_convert_cmdline().
constexpr std::uint32_t kInitrdTag = 0x8f3b'22ec;
constexpr std::uint32_t kLoadOptionsTag = 0x8f3b'22ed;
constexpr std::string_view kInitrdName("Linux initrd\0", 13);
constexpr std::string_view kLoadOptionsName("LOADED_IMAGE::LoadOptions\0", 26);

constexpr std::uint32_t kHostTag = 0x5856'4850;  // "XVHP"

// Xen cuts a PV guest's command line after as many bytes (xen/include/public/xen.h: MAX_GUEST_CMDLINE, with its NUL);
// what type the guest is libxl does not say.
constexpr std::size_t kMaxArguments = 1023;

// Events in the making, all for the same banks.
class EventList {
public:
    explicit EventList(Banks banks) : banks_(std::move(banks)) {}

    // The digest is over `measured`, of which the log may have more or less.
    Result<> add(unsigned pcr, EventType type, ByteView measured, Bytes data) {
        VTPM_ASSIGN(Digests digests, digests_of(measured, banks_));
        add(pcr, type, std::move(digests), std::move(data));
        return {};
    }
    Result<> add(unsigned pcr, EventType type, const Bytes &data) { return add(pcr, type, data, data); }
    Result<> add(unsigned pcr, EventType type, std::string_view text) {
        return add(pcr, type, Bytes(text.begin(), text.end()));
    }
    void add(unsigned pcr, EventType type, Digests digests, Bytes data) {
        events_.push_back({pcr, type, std::move(digests), std::move(data)});
    }
    Result<> add_separators(std::uint32_t value) {
        for (unsigned pcr = kFirstSeparator; pcr <= kLastSeparator; ++pcr)
            VTPM_TRY(add(pcr, EventType::kSeparator, LittleEndianWriter().number(value).bytes()));
        return {};
    }
    Result<> add_version() {
        VTPM_ASSIGN(const Bytes version, utf16(kVersion));
        return add(kFirmwareCode, EventType::kCrtmVersion, version);
    }
    Events take() { return std::move(events_); }

private:
    Banks banks_;
    Events events_;
};

Bytes with_nul(std::string_view text) {
    Bytes bytes(text.begin(), text.end());
    bytes.push_back(0);
    return bytes;
}

// PFP 1.06, 10.2.5: a number and a size, then what is tagged.
Bytes tagged(std::uint32_t tag, ByteView bytes) {
    return LittleEndianWriter().number(tag).number(static_cast<std::uint32_t>(bytes.size())).raw(bytes).bytes();
}
Bytes tagged(std::uint32_t tag, std::string_view name) { return tagged(tag, bytes_of(name)); }

// UEFI_IMAGE_LOAD_EVENT (PFP 1.06, 10.2.3): where it was loaded, its size, where it was linked, and a device path
// (UEFI 10.3.4.4) with a file's name. The name says what it is, not where dom0 had it.
Result<Bytes> image_load_event(std::uint64_t size, std::string_view name) {
    VTPM_ASSIGN(const Bytes file, utf16(name));
    LittleEndianWriter path;
    path.number(std::uint8_t{4}).number(std::uint8_t{4}).number(static_cast<std::uint16_t>(4 + file.size())).raw(file);
    path.number(std::uint8_t{0x7f}).number(std::uint8_t{0xff}).number(std::uint16_t{4});
    LittleEndianWriter event;
    event.number(std::uint64_t{0}).number(size).number(std::uint64_t{0});
    return event.number(std::uint64_t{path.bytes().size()}).raw(path.bytes()).bytes();
}

Result<> add_application(EventList &events, const MeasuredImage &image, std::string_view name) {
    VTPM_ASSIGN(Bytes data, image_load_event(image.size, name));
    events.add(kLoaderCode, EventType::kEfiApplication, image.digests, std::move(data));
    return {};
}

// A word of ours. In the PCRs of systemd-stub its log has it as UTF-16, as readers of those expect.
Result<> add_marker(EventList &events, unsigned pcr, std::string_view text) {
    if (pcr < kUki || pcr > kSysexts) return events.add(pcr, EventType::kIpl, text);
    VTPM_ASSIGN(Bytes data, utf16(text));
    return events.add(pcr, EventType::kIpl, bytes_of(text), std::move(data));
}

// As systemd-stub does: the name of each section, then its content, both described by the name.
Result<> add_uki(EventList &events, const MeasuredUki &uki, const Bytes &load_options) {
    for (const MeasuredSection &section : uki.sections) {
        VTPM_ASSIGN(const Bytes name, utf16(section.name));
        VTPM_TRY(events.add(kUki, EventType::kIpl, with_nul(section.name), name));
        events.add(kUki, EventType::kIpl, section.content, name);
    }
    if (uki.command_line_replaced) VTPM_TRY(events.add(kKernelConfig, EventType::kIpl, load_options));
    return add_application(events, uki.kernel, "\\.linux");
}

// GRUB's form (PCR 8: without the words before it) and Linux' form (PCR 9).
Result<> add_command_line(EventList &events, std::string_view line, const Bytes &load_options) {
    VTPM_TRY(
        events.add(kLoaderCommands, EventType::kIpl, bytes_of(line), with_nul("kernel_cmdline: " + std::string(line))));
    return events.add(kLoaderFiles, EventType::kEventTag, load_options, tagged(kLoadOptionsTag, kLoadOptionsName));
}

}  // namespace

Result<Events> launch_events(const MeasuredLaunch &launch) {
    if (launch.command_line.size() > kMaxArguments)
        return fail(ErrorCode::kInvalid,
                    "the kernel's command line has {} bytes, of which a PV guest would get {}: shorten it",
                    launch.command_line.size(), kMaxArguments);
    auto load_options = utf16(launch.command_line);
    if (!load_options) return fail(ErrorCode::kInvalid, "the command line: {}", load_options.error().text);
    EventList events(launch.banks);
    VTPM_TRY(events.add_version());
    VTPM_TRY(events.add(kLoaderCode, EventType::kEfiAction, kCalling));
    VTPM_TRY(events.add_separators(kSeparator));
    VTPM_TRY(add_application(events, launch.image, launch.uki ? "\\uki" : "\\kernel"));
    if (launch.uki)
        VTPM_TRY(add_uki(events, *launch.uki, *load_options));
    else
        VTPM_TRY(add_marker(events, kUki, kNoUki));
    VTPM_TRY(add_command_line(events, launch.command_line, *load_options));
    if (launch.initrd) events.add(kLoaderFiles, EventType::kEventTag, *launch.initrd, tagged(kInitrdTag, kInitrdName));
    return events.take();
}

Result<Event> host_event(unsigned pcr, ByteView value, const Banks &banks) {
    VTPM_ASSIGN(Digests digests, digests_of(value, banks));
    return Event{pcr, EventType::kEventTag, std::move(digests), tagged(kHostTag, value)};
}

Result<Events> unmeasured_events(const Banks &banks) {
    EventList events(banks);
    VTPM_TRY(events.add_version());
    VTPM_TRY(events.add_separators(kErrorSeparator));
    for (const unsigned pcr : {8U, 9U, 11U, 12U, 13U, 14U}) VTPM_TRY(add_marker(events, pcr, kNotMeasured));
    return events.take();
}

}  // namespace vtpm::launch
