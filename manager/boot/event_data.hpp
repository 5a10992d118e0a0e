// SPDX-License-Identifier: Apache-2.0
// What an event of a firmware's log says of itself (PFP 1.06, 10.2 and 10.4), from whoever wrote the log. Views borrow
// from the event.
#pragma once

#include <optional>
#include <string>

#include "base/bytes.hpp"

namespace vtpm {

// PCRs, by what is measured into them.
constexpr unsigned kLoaders = 4;
constexpr unsigned kSecureBoot = 7;
constexpr unsigned kLoaderSettings = 5;
constexpr unsigned kGrubCommands = 8;
constexpr unsigned kGrubFiles = 9;

constexpr std::uint32_t kSeparatorEvent = 0x0000'0004;
constexpr std::uint32_t kTaggedEvent = 0x0000'0006;  // a number and a size (10.2.5), then what is tagged
constexpr std::uint32_t kIplEvent = 0x0000'000d;
constexpr std::uint32_t kVariableConfigEvent = 0x8000'0001;     // EV_EFI_VARIABLE_DRIVER_CONFIG
constexpr std::uint32_t kApplicationEvent = 0x8000'0003;        // EV_EFI_BOOT_SERVICES_APPLICATION
constexpr std::uint32_t kVariableAuthorityEvent = 0x8000'00e0;  // EV_EFI_VARIABLE_AUTHORITY

// "EV_SEPARATOR"; of a type that the profile has not, its number.
std::string type_name(std::uint32_t type);

// UEFI_VARIABLE_DATA (10.4.2.6). The name is printable, and none if it is longer than a line.
struct FirmwareVariable {
    ByteView vendor;  // its GUID
    std::string name;
    ByteView data;
};
std::optional<FirmwareVariable> firmware_variable(ByteView event);

// The path in UEFI_IMAGE_LOAD_EVENT (10.2.3), such as "\\EFI\\debian\\shimx64.efi". Empty: it names no file.
std::string image_file(ByteView event);

// For terminals and logs: printable ASCII, and no more than fits a line. Empty: it is no text.
std::string text_of(std::uint32_t type, ByteView event);

}  // namespace vtpm
