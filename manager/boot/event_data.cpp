// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/event_data.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "launch/little_endian.hpp"

namespace vtpm {
namespace {

constexpr std::size_t kMaxText = 120;
constexpr std::size_t kTagHeader = 8;
constexpr std::size_t kGuidSize = 16;

const std::map<std::uint32_t, const char *> &type_names() {
    static const std::map<std::uint32_t, const char *> names = {
        {0x00000000, "EV_PREBOOT_CERT"},
        {0x00000001, "EV_POST_CODE"},
        {0x00000004, "EV_SEPARATOR"},
        {0x00000005, "EV_ACTION"},
        {0x00000006, "EV_EVENT_TAG"},
        {0x00000007, "EV_S_CRTM_CONTENTS"},
        {0x00000008, "EV_S_CRTM_VERSION"},
        {0x00000009, "EV_CPU_MICROCODE"},
        {0x0000000a, "EV_PLATFORM_CONFIG_FLAGS"},
        {0x0000000b, "EV_TABLE_OF_DEVICES"},
        {0x0000000c, "EV_COMPACT_HASH"},
        {0x0000000d, "EV_IPL"},
        {0x0000000e, "EV_IPL_PARTITION_DATA"},
        {0x0000000f, "EV_NONHOST_CODE"},
        {0x00000010, "EV_NONHOST_CONFIG"},
        {0x00000011, "EV_NONHOST_INFO"},
        {0x00000012, "EV_OMIT_BOOT_DEVICE_EVENTS"},
        {0x80000001, "EV_EFI_VARIABLE_DRIVER_CONFIG"},
        {0x80000002, "EV_EFI_VARIABLE_BOOT"},
        {0x80000003, "EV_EFI_BOOT_SERVICES_APPLICATION"},
        {0x80000004, "EV_EFI_BOOT_SERVICES_DRIVER"},
        {0x80000005, "EV_EFI_RUNTIME_SERVICES_DRIVER"},
        {0x80000006, "EV_EFI_GPT_EVENT"},
        {0x80000007, "EV_EFI_ACTION"},
        {0x80000008, "EV_EFI_PLATFORM_FIRMWARE_BLOB"},
        {0x80000009, "EV_EFI_HANDOFF_TABLES"},
        {0x8000000a, "EV_EFI_PLATFORM_FIRMWARE_BLOB2"},
        {0x8000000b, "EV_EFI_HANDOFF_TABLES2"},
        {0x8000000c, "EV_EFI_VARIABLE_BOOT2"},
        {0x80000010, "EV_EFI_HCRTM_EVENT"},
        {0x800000e0, "EV_EFI_VARIABLE_AUTHORITY"},
        {0x800000e1, "EV_EFI_SPDM_FIRMWARE_BLOB"},
        {0x800000e2, "EV_EFI_SPDM_FIRMWARE_CONFIG"},
    };
    return names;
}

bool is_image(std::uint32_t type) { return type >= 0x80000003 && type <= 0x80000005; }

bool is_variable(std::uint32_t type) {
    return type == 0x80000001 || type == 0x80000002 || type == 0x8000000c || type == 0x800000e0;
}

// For terminals and logs: printable ASCII, and no more than fits a line.
std::string short_text(ByteView bytes) {
    std::string text;
    for (const std::uint8_t byte : bytes.first(std::min(bytes.size(), kMaxText)))
        if (byte >= ' ' && byte <= '~') text += static_cast<char>(byte);
    return text;
}

}  // namespace

std::string type_name(std::uint32_t type) {
    const auto found = type_names().find(type);
    return found != type_names().end() ? found->second : fmt::format("event type {:#010x}", type);
}

// A GUID, the lengths of name and data, the name in UCS-2, the data.
std::optional<FirmwareVariable> firmware_variable(ByteView event) {
    launch::LittleEndianReader reader(event);
    const auto vendor = reader.take(kGuidSize);
    const auto characters = reader.number<std::uint64_t>();
    const auto size = reader.number<std::uint64_t>();
    if (!vendor || !size || *characters > kMaxText) return std::nullopt;
    const auto name = reader.take(2 * *characters);
    const auto data = name ? reader.take(*size) : std::nullopt;
    if (!data) return std::nullopt;
    return FirmwareVariable{*vendor, short_text(*name), *data};
}

// UEFI_IMAGE_LOAD_EVENT (10.2.3): three numbers about memory, then the device path (UEFI, 10.3) with its length: nodes
// of a type, a subtype and a length. That of a file is of type 4, subtype 4: its path in UCS-2.
std::string image_file(ByteView event) {
    constexpr std::size_t kMemory = 3 * std::size_t{8};
    constexpr std::uint16_t kHeader = 4;
    launch::LittleEndianReader reader(event);
    (void)reader.take(kMemory);
    const auto size = reader.number<std::uint64_t>();
    const auto path = size ? reader.take(*size) : std::nullopt;
    launch::LittleEndianReader nodes(path.value_or(ByteView()));
    for (;;) {
        const auto type = nodes.number<std::uint8_t>();
        const auto subtype = nodes.number<std::uint8_t>();
        const auto length = nodes.number<std::uint16_t>();
        const auto content = length && *length >= kHeader ? nodes.take(*length - kHeader) : std::nullopt;
        if (!content) return {};
        if (*type == 4 && *subtype == 4) return short_text(*content);
    }
}

// Only what is text for the most part says anything to a reader.
std::string text_of(std::uint32_t type, ByteView event) {
    if (is_variable(type)) {
        const auto variable = firmware_variable(event);
        return variable ? variable->name : std::string();
    }
    if (is_image(type)) return image_file(event);
    if (type == kTaggedEvent) event = event.subspan(std::min(kTagHeader, event.size()));
    while (!event.empty() && event.back() == 0) event = event.first(event.size() - 1);
    std::string text = short_text(event);
    const std::size_t considered = std::min(event.size(), kMaxText);
    return 2 * text.size() >= considered ? text : std::string();
}

}  // namespace vtpm
