// SPDX-License-Identifier: Apache-2.0
// TPM commands, byte by byte, for tests that talk to an engine without a TSS.
#pragma once

#include <initializer_list>

#include "base/bytes.hpp"

namespace vtpm::commands {

inline Bytes with_size(Bytes command) {
    for (std::size_t i = 0; i < 4; ++i) command.at(2 + i) = static_cast<std::uint8_t>(command.size() >> (24 - 8 * i));
    return command;
}

// TPM2_GetRandom(16)
inline Bytes get_random() { return with_size({0x80, 0x01, 0, 0, 0, 0, 0, 0, 0x01, 0x7B, 0, 16}); }

// TPM2_PCR_Read(sha256: pcr)
inline Bytes pcr_read(unsigned pcr) {
    Bytes command{0x80, 0x01, 0, 0, 0, 0, 0, 0, 0x01, 0x7E, 0, 0, 0, 1, 0, 0x0B, 3, 0, 0, 0};
    command.at(17 + pcr / 8) = static_cast<std::uint8_t>(1U << (pcr % 8));
    return with_size(command);
}

// The digest at the end of a response to pcr_read.
inline Bytes pcr_value(const Bytes &response) {
    return response.size() < 32 ? Bytes{} : Bytes(response.end() - 32, response.end());
}

// TPM2_PCR_Extend(pcr, sha256: 32 bytes of `value`), empty password
inline Bytes pcr_extend(std::uint8_t pcr, std::uint8_t value) {
    Bytes command{0x80, 0x02, 0, 0, 0, 0, 0, 0, 0x01, 0x82, 0, 0, 0, pcr, 0, 0,   0,
                  9,    0x40, 0, 0, 9, 0, 0, 0, 0,    0,    0, 0, 0, 1,   0, 0x0B};
    command.insert(command.end(), 32, value);
    return with_size(command);
}

// TPM2_NV_DefineSpace of an ordinary index of `size` bytes that owner and its empty password may read and write
inline Bytes nv_define(std::uint32_t index, std::uint16_t size) {
    const auto i = [&](unsigned shift) { return static_cast<std::uint8_t>(index >> shift); };
    return with_size({0x80,
                      0x02,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0x01,
                      0x2A,
                      0x40,
                      0,
                      0,
                      1,  // TPM_RH_OWNER
                      0,
                      0,
                      0,
                      9,
                      0x40,
                      0,
                      0,
                      9,
                      0,
                      0,
                      0,
                      0,
                      0,  // TPM_RS_PW
                      0,
                      0,  // no authValue
                      0,
                      14,
                      i(24),
                      i(16),
                      i(8),
                      i(0),
                      0,
                      0x0B,
                      0,
                      0x06,
                      0,
                      0x06,
                      0,
                      0,  // AUTH/OWNER READ/WRITE
                      static_cast<std::uint8_t>(size >> 8),
                      static_cast<std::uint8_t>(size)});
}

inline Bytes nv_write(std::uint32_t index, ByteView data) {
    const auto i = [&](unsigned shift) { return static_cast<std::uint8_t>(index >> shift); };
    Bytes command{0x80,
                  0x02,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0x01,
                  0x37,
                  i(24),
                  i(16),
                  i(8),
                  i(0),
                  i(24),
                  i(16),
                  i(8),
                  i(0),
                  0,
                  0,
                  0,
                  9,
                  0x40,
                  0,
                  0,
                  9,
                  0,
                  0,
                  0,
                  0,
                  0,
                  static_cast<std::uint8_t>(data.size() >> 8),
                  static_cast<std::uint8_t>(data.size())};
    command.insert(command.end(), data.begin(), data.end());
    command.insert(command.end(), {0, 0});  // offset
    return with_size(command);
}

inline Bytes nv_read(std::uint32_t index, std::uint16_t size) {
    const auto i = [&](unsigned shift) { return static_cast<std::uint8_t>(index >> shift); };
    return with_size({0x80,
                      0x02,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0x01,
                      0x4E,
                      i(24),
                      i(16),
                      i(8),
                      i(0),
                      i(24),
                      i(16),
                      i(8),
                      i(0),
                      0,
                      0,
                      0,
                      9,
                      0x40,
                      0,
                      0,
                      9,
                      0,
                      0,
                      0,
                      0,
                      0,
                      static_cast<std::uint8_t>(size >> 8),
                      static_cast<std::uint8_t>(size),
                      0,
                      0});
}

// The data of a response to nv_read: TPM2B after header and parameterSize.
inline Bytes nv_data(const Bytes &response) {
    if (response.size() < 16) return {};
    const std::size_t size = static_cast<std::size_t>(response.at(14) << 8 | response.at(15));
    if (response.size() < 16 + size) return {};
    return {response.begin() + 16, response.begin() + 16 + static_cast<std::ptrdiff_t>(size)};
}

// TPM_GetCapability(TPM_CAP_VERSION_VAL) of TPM 1.2
inline Bytes tpm12_version() { return with_size({0x00, 0xC1, 0, 0, 0, 0, 0, 0, 0, 0x65, 0, 0, 0, 0x1A, 0, 0, 0, 0}); }
inline Bytes tpm12_pcr_read(std::uint8_t pcr) {
    return with_size({0x00, 0xC1, 0, 0, 0, 0, 0, 0, 0, 0x15, 0, 0, 0, pcr});
}

}  // namespace vtpm::commands
