// SPDX-License-Identifier: Apache-2.0
#include "manager/policy/event_log.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <utility>

#include "launch/little_endian.hpp"
#include "launch/pcrs.hpp"
#include "launch/tcg_log.hpp"

namespace vtpm {
namespace {

constexpr std::size_t kMaxText = 120;
constexpr std::uint32_t kEventTag = 0x00000006;  // a number and a size (10.2.5), then what is tagged
constexpr std::size_t kTagHeader = 8;

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

std::string type_name(std::uint32_t type) {
    const auto found = type_names().find(type);
    return found != type_names().end() ? found->second : fmt::format("event type {:#010x}", type);
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

// UEFI_VARIABLE_DATA (10.4.2.6): a GUID, the lengths of name and data, the name in UCS-2.
std::string variable_name(ByteView event) {
    launch::LittleEndianReader reader(event);
    (void)reader.take(16);
    const auto characters = reader.number<std::uint64_t>();
    (void)reader.number<std::uint64_t>();
    if (!characters || *characters > kMaxText) return {};
    const auto name = reader.take(2 * *characters);
    return name ? short_text(*name) : std::string();
}

// UEFI_IMAGE_LOAD_EVENT (10.2.3): three numbers about memory, then the device path (UEFI, 10.3) with its length: nodes
// of a type, a subtype and a length. That of a file is of type 4, subtype 4: its path in UCS-2.
std::string file_path(ByteView event) {
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
    if (is_variable(type)) return variable_name(event);
    if (is_image(type)) return file_path(event);
    if (type == kEventTag) event = event.subspan(std::min(kTagHeader, event.size()));
    while (!event.empty() && event.back() == 0) event = event.first(event.size() - 1);
    std::string text = short_text(event);
    const std::size_t considered = std::min(event.size(), kMaxText);
    return 2 * text.size() >= considered ? text : std::string();
}

tl::unexpected<Error> damaged() {
    return fail(ErrorCode::kInvalid, "this is no event log of the firmware, or a damaged one");
}

// The digest of `wanted`; empty: the event extended other banks only.
Bytes digest_of_bank(const launch::LogEvent &event, std::uint16_t wanted) {
    const auto found = std::ranges::find(event.digests, wanted, &launch::LogDigest::algorithm);
    return found != event.digests.end() ? Bytes(found->value.begin(), found->value.end()) : Bytes();
}

}  // namespace

Result<std::vector<BootEvent>> parse_event_log(ByteView log, const PcrSelection &pcrs) {
    const auto read = launch::read_tcg_log(log);
    if (!read) return damaged();
    const TPM2_ALG_ID wanted = pcrs.tpm().pcrSelections[0].hash;
    if (std::ranges::find(read->banks, wanted, &launch::LogBank::algorithm) == read->banks.end())
        return fail(ErrorCode::kInvalid, "the firmware's event log has no digests for {}", pcrs.to_string());
    const auto numbers = pcrs.numbers();
    std::vector<BootEvent> events;
    for (const launch::LogEvent &event : read->events)
        if (event.type != launch::kNoActionEvent && std::ranges::binary_search(numbers, event.pcr))
            events.push_back(
                {event.pcr, type_name(event.type), digest_of_bank(event, wanted), text_of(event.type, event.data)});
    return events;
}

Result<PcrValues> replayed(const std::vector<BootEvent> &events, const PcrSelection &pcrs) {
    const auto bank = launch::hash_of_algorithm(pcrs.tpm().pcrSelections[0].hash).value_or(launch::Hash::kSha256);
    PcrValues values;
    for (const unsigned pcr : pcrs.numbers()) values[pcr].resize(launch::digest_size(bank));
    for (const BootEvent &event : events) {
        Bytes &value = values[event.pcr];
        VTPM_ASSIGN(value, launch::extended(value, event.digest, bank));
    }
    return values;
}

}  // namespace vtpm
