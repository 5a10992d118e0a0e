// SPDX-License-Identifier: Apache-2.0
// The commands and responses of TPMs: tag, size of the whole, code, and what follows (TCG TPM 2.0 Part 1, 18; TPM 1.2
// Part 3, 3). Big endian.
#pragma once

#include "base/big_endian.hpp"
#include "shared-protocol/tpmif.h"

namespace vtpm {

constexpr std::uint16_t kTpmNoSessions = 0x8001;  // TPM_ST_NO_SESSIONS
constexpr std::uint16_t kTpmSessions = 0x8002;    // TPM_ST_SESSIONS
constexpr std::uint16_t kTpm12Request = 0x00c1;   // TPM_TAG_RQU_COMMAND
constexpr std::uint16_t kTpm12Response = 0x00c4;  // TPM_TAG_RSP_COMMAND

inline Bytes tpm_message(std::uint16_t tag, std::uint32_t code, ByteView rest = {}) {
    return BigEndian().u16(tag).number(TPM_MESSAGE_HEADER_SIZE + rest.size(), 4).u32(code).raw(rest).bytes();
}

// The authorization area of one session: TPM_RS_PW with the empty password (TPM 2.0 Part 1, 18.5).
inline Bytes empty_password() {
    constexpr std::uint32_t kSize = 9;
    constexpr std::uint32_t kPasswordSession = 0x40000009;
    return BigEndian().u32(kSize).u32(kPasswordSession).u16(0).u8(0).u16(0).bytes();
}

// Of at least TPM_MESSAGE_HEADER_SIZE bytes.
inline std::uint32_t tpm_size(ByteView message) {
    return static_cast<std::uint32_t>(big_endian(message.subspan(TPM_MESSAGE_SIZE_OFFSET, 4)));
}
inline std::uint32_t tpm_code(ByteView message) {
    return static_cast<std::uint32_t>(big_endian(message.subspan(TPM_MESSAGE_CODE_OFFSET, 4)));
}

}  // namespace vtpm
