// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/tpm_messages.hpp"

#include <algorithm>

#include "shared-protocol/tpmif.h"

namespace vtpm {
namespace {

std::uint32_t code_of(TpmVersion version, GuestFault fault) {
    const bool v12 = version == TpmVersion::k12;
    switch (fault) {
        case GuestFault::kMalformed:
            return v12 ? 25 : 0x142;
        case GuestFault::kLocality:
            return v12 ? 61 : 0x907;
        case GuestFault::kNvUnavailable:
            return v12 ? 31 : 0x923;
        case GuestFault::kFailure:
            break;
    }
    return v12 ? 9 : 0x101;
}

std::uint32_t u32_at(ByteView message, std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) value = value << 8 | message[at + i];
    return value;
}

void put_u32(std::uint8_t *out, std::uint32_t value) {
    for (int i = 0; i < 4; ++i) out[i] = static_cast<std::uint8_t>(value >> (24 - 8 * i));
}

// TPM 1.2 Part 3: tag TPM_TAG_RQU_COMMAND, size, ordinal, parameters.
Bytes command_12(std::uint32_t ordinal, std::initializer_list<std::uint8_t> parameters) {
    Bytes command(TPM_MESSAGE_HEADER_SIZE + parameters.size());
    command[1] = 0xC1;
    std::copy(parameters.begin(), parameters.end(), command.begin() + TPM_MESSAGE_HEADER_SIZE);
    put_u32(command.data() + 2, static_cast<std::uint32_t>(command.size()));
    put_u32(command.data() + 6, ordinal);
    return command;
}

constexpr std::uint32_t kTpmStartup = 0x99;
constexpr std::uint32_t kPhysicalEnable = 0x6F;
constexpr std::uint32_t kPhysicalSetDeactivated = 0x72;
constexpr std::uint32_t kPhysicalPresence = 0x4000000A;
constexpr std::uint8_t kPresenceCmdEnable = 0x20;
constexpr std::uint8_t kPresencePresent = 0x08;
constexpr std::uint8_t kPresenceNotPresentAndLock = 0x14;

Bytes startup_12() { return command_12(kTpmStartup, {0x00, 0x01}); }  // TPM_ST_CLEAR

Bytes startup_20() { return {0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0x00, 0x00}; }   // TPM_SU_CLEAR
Bytes shutdown_20() { return {0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0x00, 0x00}; }  // TPM_SU_CLEAR

// TPM2_HierarchyControl(TPM_RH_PLATFORM, enable = TPM_RH_PLATFORM, state = NO), by the empty password.
Bytes disable_platform_20() {
    return {0x80, 0x02, 0,    0,    0,    32,                          // TPM_ST_SESSIONS
            0,    0,    0x01, 0x21,                                    // TPM_CC_HierarchyControl
            0x40, 0,    0,    0x0C,                                    // TPM_RH_PLATFORM
            0,    0,    0,    9,    0x40, 0,  0, 0x09, 0, 0, 0, 0, 0,  // TPM_RS_PW
            0x40, 0,    0,    0x0C, 0};
}

}  // namespace

ErrorResponse error_response(TpmVersion version, GuestFault fault) {
    // TPM_ST_NO_SESSIONS and TPM_TAG_RSP_COMMAND
    ErrorResponse response{};
    if (version == TpmVersion::k12)
        response[1] = 0xC4;
    else
        response[0] = 0x80, response[1] = 0x01;
    put_u32(response.data() + TPM_MESSAGE_SIZE_OFFSET, static_cast<std::uint32_t>(response.size()));
    put_u32(response.data() + 6, code_of(version, fault));
    return response;
}

std::uint32_t return_code(ByteView response) {
    if (response.size() < TPM_MESSAGE_HEADER_SIZE) return code_of(TpmVersion::k20, GuestFault::kFailure);
    return u32_at(response, 6);
}

Result<std::vector<Bytes>> split_commands(ByteView commands) {
    std::vector<Bytes> all;
    while (!commands.empty()) {
        const std::size_t size =
            commands.size() < TPM_MESSAGE_HEADER_SIZE ? 0 : u32_at(commands, TPM_MESSAGE_SIZE_OFFSET);
        if (size < TPM_MESSAGE_HEADER_SIZE || size > commands.size())
            return fail(ErrorCode::kInvalid, "a command's length is not what its header says");
        all.emplace_back(commands.begin(), commands.begin() + static_cast<std::ptrdiff_t>(size));
        commands = commands.subspan(size);
    }
    return all;
}

std::vector<Bytes> power_on_commands(TpmVersion version) {
    if (version == TpmVersion::k12)
        return {startup_12(), command_12(kPhysicalPresence, {0x00, kPresenceNotPresentAndLock})};
    return {startup_20(), disable_platform_20()};
}

std::vector<Bytes> first_power_on_commands_12() {
    return {startup_12(), command_12(kPhysicalPresence, {0x00, kPresenceCmdEnable}),
            command_12(kPhysicalPresence, {0x00, kPresencePresent}), command_12(kPhysicalEnable, {}),
            command_12(kPhysicalSetDeactivated, {0x00})};
}

std::vector<Bytes> power_off_commands(TpmVersion version) {
    if (version == TpmVersion::k12) return {};
    return {shutdown_20()};
}

}  // namespace vtpm
