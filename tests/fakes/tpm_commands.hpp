// SPDX-License-Identifier: Apache-2.0
// TPM commands, byte by byte, for tests that talk to an engine without a TSS.
#pragma once

#include "base/bytes.hpp"
#include "shared-protocol/tpmif.h"

namespace vtpm::commands {

// Makes the size in its header what it is.
inline void set_size(Bytes &command) {
    for (std::size_t i = 0; i < 4; ++i)
        command.at(TPM_MESSAGE_SIZE_OFFSET + i) = static_cast<std::uint8_t>(command.size() >> (24 - 8 * i));
}

// A command of TCG TPM 2.0 Library Part 3, or of TPM 1.2, in the making; the size is filled in by build().
class Command {
public:
    Command(std::uint16_t tag, std::uint32_t code) { u16(tag).u32(0).u32(code); }
    Command &u8(std::uint8_t value) {
        bytes_.push_back(value);
        return *this;
    }
    Command &u16(std::uint16_t value) {
        return u8(static_cast<std::uint8_t>(value >> 8)).u8(static_cast<std::uint8_t>(value));
    }
    Command &u32(std::uint32_t value) {
        return u16(static_cast<std::uint16_t>(value >> 16)).u16(static_cast<std::uint16_t>(value));
    }
    Command &data(ByteView data) {
        bytes_.insert(bytes_.end(), data.begin(), data.end());
        return *this;
    }
    // TPM2B
    Command &sized(ByteView sized) { return u16(static_cast<std::uint16_t>(sized.size())).data(sized); }
    // The authorization area: one session, TPM_RS_PW with the empty password.
    Command &password() { return u32(9).u32(0x40000009).u16(0).u8(0).u16(0); }
    [[nodiscard]] Bytes build() const {
        Bytes command = bytes_;
        set_size(command);
        return command;
    }

private:
    Bytes bytes_;
};

constexpr std::uint16_t kNoSessions = 0x8001;
constexpr std::uint16_t kSessions = 0x8002;
constexpr std::uint16_t kTpm12 = 0x00C1;  // TPM_TAG_RQU_COMMAND
constexpr std::uint16_t kSha1 = 0x0004;
constexpr std::uint16_t kSha256 = 0x000B;
constexpr std::uint16_t kSha384 = 0x000C;
constexpr std::uint16_t kSha512 = 0x000D;
constexpr std::uint32_t kOwner = 0x40000001;
constexpr std::uint32_t kPlatform = 0x4000000C;

// TPM2_GetRandom(16)
inline Bytes get_random() { return Command(kNoSessions, 0x17B).u16(16).build(); }

// TPM2_PCR_Read(bank: pcr)
inline Bytes pcr_read(unsigned pcr, std::uint16_t bank = kSha256) {
    Bytes selected(3, 0);
    selected.at(pcr / 8) = static_cast<std::uint8_t>(1U << (pcr % 8));
    return Command(kNoSessions, 0x17E).u32(1).u16(bank).u8(3).data(selected).build();
}

// The digest at the end of a response to pcr_read.
inline Bytes pcr_value(const Bytes &response, std::size_t size = 32) {
    return response.size() < size ? Bytes{} : Bytes(response.end() - static_cast<std::ptrdiff_t>(size), response.end());
}

// TPM2_PCR_Extend(pcr, sha256: 32 bytes of `value`)
inline Bytes pcr_extend(std::uint8_t pcr, std::uint8_t value) {
    return Command(kSessions, 0x182).u32(pcr).password().u32(1).u16(kSha256).data(Bytes(32, value)).build();
}

// TPM2_PCR_Event(pcr, data)
inline Bytes pcr_event(std::uint8_t pcr, ByteView data) {
    return Command(kSessions, 0x13C).u32(pcr).password().sized(data).build();
}

// TPM2_HashSequenceStart(empty authValue, SHA-256): takes a slot of the loaded objects.
inline Bytes start_hash_sequence() { return Command(kNoSessions, 0x186).u16(0).u16(kSha256).build(); }

// TPM2_FlushContext(handle)
inline Bytes flush(std::uint32_t handle) { return Command(kNoSessions, 0x165).u32(handle).build(); }

// TPM2_HierarchyControl(TPM_RH_PLATFORM, TPM_RH_PLATFORM, enable)
inline Bytes enable_platform() {
    return Command(kSessions, 0x121).u32(kPlatform).password().u32(kPlatform).u8(1).build();
}

// TPM2_NV_DefineSpace of an ordinary index of `size` bytes that whoever is owner or knows its (empty) password may read
// and write. NO_DA: a power loss is no failed guess of that password (Part 1, 19.8.6).
inline Bytes nv_define(std::uint32_t index, std::uint16_t size) {
    constexpr std::uint32_t kAttributes = 0x02060006;
    return Command(kSessions, 0x12A)
        .u32(kOwner)
        .password()
        .u16(0)   // no authValue
        .u16(14)  // TPM2B_NV_PUBLIC
        .u32(index)
        .u16(kSha256)
        .u32(kAttributes)
        .u16(0)
        .u16(size)
        .build();
}

// TPM2_NV_Write(index, data, offset 0)
inline Bytes nv_write(std::uint32_t index, ByteView data) {
    return Command(kSessions, 0x137).u32(index).u32(index).password().sized(data).u16(0).build();
}

// TPM2_NV_Read(index, size, offset 0)
inline Bytes nv_read(std::uint32_t index, std::uint16_t size) {
    return Command(kSessions, 0x14E).u32(index).u32(index).password().u16(size).u16(0).build();
}

// The data of a response to nv_read: TPM2B after header and parameterSize.
inline Bytes nv_data(const Bytes &response) {
    if (response.size() < 16) return {};
    const std::size_t size = static_cast<std::size_t>(response.at(14) << 8 | response.at(15));
    if (response.size() < 16 + size) return {};
    return {response.begin() + 16, response.begin() + 16 + static_cast<std::ptrdiff_t>(size)};
}

// TPM_GetCapability(TPM_CAP_VERSION_VAL)
inline Bytes tpm12_version() { return Command(kTpm12, 0x65).u32(0x1A).u32(0).build(); }
// TPM_GetCapability(TPM_CAP_FLAG, TPM_CAP_FLAG_PERMANENT)
inline Bytes tpm12_permanent_flags() { return Command(kTpm12, 0x65).u32(4).u32(4).u32(0x108).build(); }
inline Bytes tpm12_pcr_read(std::uint8_t pcr) { return Command(kTpm12, 0x15).u32(pcr).build(); }

}  // namespace vtpm::commands
