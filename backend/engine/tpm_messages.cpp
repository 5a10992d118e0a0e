// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/tpm_messages.hpp"

#include <algorithm>
#include <array>

#include "shared-protocol/tpm_message.hpp"

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

constexpr std::uint32_t kTpmStartup = 0x99;
constexpr std::uint32_t kPhysicalEnable = 0x6F;
constexpr std::uint32_t kPhysicalSetDeactivated = 0x72;
constexpr std::uint32_t kPhysicalPresence = 0x4000000A;
constexpr std::uint32_t kGetCapability12 = 0x65;
constexpr std::uint32_t kCreateEndorsementKeyPair = 0x78;
constexpr std::uint16_t kPresenceCmdEnableForGood = 0xA0;  // physicalPresenceLifetimeLock
constexpr std::uint16_t kPresencePresent = 0x08;
constexpr std::uint16_t kPresenceNotPresentAndLock = 0x14;

// TPM 1.2 Part 3: tag, size, ordinal, parameters.
Bytes command_12(std::uint32_t ordinal, const BigEndian &parameters = {}) {
    return tpm_message(kTpm12Request, ordinal, parameters.bytes());
}

constexpr std::uint16_t kTpmStClear = 1;
Bytes startup_12() { return command_12(kTpmStartup, BigEndian().u16(kTpmStClear)); }
Bytes presence_12(std::uint16_t presence) { return command_12(kPhysicalPresence, BigEndian().u16(presence)); }

constexpr std::uint16_t kTpmSuClear = 0;
Bytes startup_20() { return tpm_message(kTpmNoSessions, 0x144, BigEndian().u16(kTpmSuClear).bytes()); }
Bytes shutdown_20() { return tpm_message(kTpmNoSessions, 0x145, BigEndian().u16(kTpmSuClear).bytes()); }

constexpr std::uint32_t kPlatform = 0x4000000C;
constexpr std::uint32_t kClockSet = 0x128;
constexpr std::uint32_t kReadClock = 0x181;
constexpr std::uint64_t kMaxClock = 0xFFFF'0000'0000'0000;

// TPM2_HierarchyControl(TPM_RH_PLATFORM, enable = TPM_RH_PLATFORM, state = NO), by the empty password.
Bytes disable_platform_20() {
    return tpm_message(kTpmSessions, 0x121,
                       BigEndian().u32(kPlatform).raw(empty_password()).u32(kPlatform).u8(0).bytes());
}

}  // namespace

Bytes error_response(TpmVersion version, GuestFault fault) {
    const auto tag = version == TpmVersion::k12 ? kTpm12Response : kTpmNoSessions;
    return tpm_message(tag, code_of(version, fault));
}

std::uint32_t return_code(ByteView response) {
    if (response.size() < TPM_MESSAGE_HEADER_SIZE) return code_of(TpmVersion::k20, GuestFault::kFailure);
    return tpm_code(response);
}

Result<std::vector<Bytes>> split_commands(ByteView commands) {
    std::vector<Bytes> all;
    while (!commands.empty()) {
        const std::size_t size = commands.size() < TPM_MESSAGE_HEADER_SIZE ? 0 : tpm_size(commands);
        if (size < TPM_MESSAGE_HEADER_SIZE || size > commands.size())
            return fail(ErrorCode::kInvalid, "a command's length is not what its header says");
        all.emplace_back(commands.begin(), commands.begin() + static_cast<std::ptrdiff_t>(size));
        commands = commands.subspan(size);
    }
    return all;
}

Bytes start_up_command(TpmVersion version) { return version == TpmVersion::k12 ? startup_12() : startup_20(); }

Bytes close_platform_command(TpmVersion version) {
    return version == TpmVersion::k12 ? presence_12(kPresenceNotPresentAndLock) : disable_platform_20();
}

Bytes settle_presence_12() { return presence_12(kPresenceCmdEnableForGood); }
Bytes assert_presence_12() { return presence_12(kPresencePresent); }

std::vector<Bytes> enable_commands_12() {
    return {command_12(kPhysicalEnable), command_12(kPhysicalSetDeactivated, BigEndian().u8(0))};
}

// TPM_CAP_FLAG, TPM_CAP_FLAG_PERMANENT.
Bytes read_flags_12() { return command_12(kGetCapability12, BigEndian().u32(4).u32(4).u32(0x108)); }

// Size, then TPM_PERMANENT_FLAGS: tag, disable, ownership, deactivated.
bool is_enabled_12(ByteView response) {
    constexpr std::size_t kFlags = TPM_MESSAGE_HEADER_SIZE + 4 + 2;
    return return_code(response) == 0 && response.size() > kFlags + 2 && response[kFlags] == 0 &&
           response[kFlags + 2] == 0;
}

// antiReplay is for who is far away. TPM_KEY_PARMS: TPM_ALG_RSA, TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_SS_NONE, and
// TPM_RSA_KEY_PARMS of 2048 bits, two primes and the default exponent.
Bytes create_endorsement_key_12() {
    constexpr std::size_t kNonce = 20;
    return command_12(
        kCreateEndorsementKeyPair,
        BigEndian().raw(Bytes(kNonce, 0)).u32(1).u16(3).u16(1).field(BigEndian().u32(2048).u32(2).u32(0).bytes()));
}

bool has_endorsement_key_12(std::uint32_t code) { return code == 8; }
bool stays_disabled_12(std::uint32_t code) { return code == 6 || code == 7; }

std::vector<Bytes> power_off_commands(TpmVersion version) {
    if (version == TpmVersion::k12) return {};
    return {shutdown_20()};
}

Bytes read_clock_command() { return tpm_message(kTpmNoSessions, kReadClock); }

// TPMS_TIME_INFO: time, clock, resetCount, restartCount, safe.
TpmClock clock_in(ByteView response) {
    constexpr std::size_t kSize = TPM_MESSAGE_HEADER_SIZE + 8 + 8 + 4 + 4 + 1;
    if (response.size() != kSize || tpm_code(response) != 0) return {};
    return {big_endian(response.subspan(TPM_MESSAGE_HEADER_SIZE + 8, 8)), response.back() != 0};
}

std::optional<Bytes> set_clock_command(std::uint64_t value) {
    if (value > kMaxClock) return std::nullopt;
    return tpm_message(kTpmSessions, kClockSet,
                       BigEndian().u32(kPlatform).raw(empty_password()).number(value, 8).bytes());
}

bool may_tell_clock(ByteView command) {
    constexpr std::uint32_t kPcrEvent = 0x13C;
    constexpr std::uint32_t kContextLoad = 0x161;
    constexpr std::uint32_t kContextSave = 0x162;
    constexpr std::uint32_t kFlushContext = 0x165;
    constexpr std::uint32_t kGetCapability = 0x17A;
    constexpr std::uint32_t kGetRandom = 0x17B;
    constexpr std::uint32_t kPcrRead = 0x17E;
    constexpr std::uint32_t kPcrExtend = 0x182;
    constexpr std::array kMute{kPcrEvent,      kContextLoad, kContextSave, kFlushContext,
                               kGetCapability, kGetRandom,   kPcrRead,     kPcrExtend};
    return std::ranges::find(kMute, tpm_code(command)) == kMute.end();
}

bool sets_clock(ByteView command, ByteView response) {
    return tpm_code(command) == kClockSet && return_code(response) == 0;
}

bool is_failed_try(ByteView response) {
    constexpr std::uint32_t kAuthFail = 0x08E;
    constexpr std::uint32_t kWhich = 0xF40;  // parameter, session or handle, and its number
    return (return_code(response) & ~kWhich) == kAuthFail;
}

}  // namespace vtpm
