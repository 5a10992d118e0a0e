// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include <string_view>

#include "base/bytes.hpp"

// A firmware's event log in the making. Little endian, as the firmware writes.
class LogWriter {
public:
    LogWriter &number(std::uint64_t value, int size) {
        for (int i = 0; i < size; ++i) bytes.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
        return *this;
    }
    LogWriter &raw(vtpm::ByteView more) {
        bytes.insert(bytes.end(), more.begin(), more.end());
        return *this;
    }
    LogWriter &text(std::string_view more) {
        bytes.insert(bytes.end(), more.begin(), more.end());
        return *this;
    }
    // The first event, for banks of SHA-1 and SHA-256.
    LogWriter &spec_id() {
        LogWriter event;
        event.text(std::string_view("Spec ID Event03\0", 16)).number(0, 4).number(0x02000202, 4).number(2, 4);
        event.number(TPM2_ALG_SHA1, 2).number(20, 2).number(TPM2_ALG_SHA256, 2).number(32, 2).number(0, 1);
        return number(0, 4).number(3, 4).raw(vtpm::Bytes(20)).number(event.bytes.size(), 4).raw(event.bytes);
    }
    LogWriter &event(unsigned pcr, std::uint32_t type, std::uint8_t digest, vtpm::ByteView event) {
        number(pcr, 4).number(type, 4).number(2, 4).number(TPM2_ALG_SHA1, 2).raw(vtpm::Bytes(20, digest));
        return number(TPM2_ALG_SHA256, 2).raw(vtpm::Bytes(32, digest)).number(event.size(), 4).raw(event);
    }
    vtpm::Bytes bytes;
};

inline vtpm::Bytes variable(std::string_view name) {
    LogWriter event;
    event.raw(vtpm::Bytes(16)).number(name.size(), 8).number(4, 8);
    for (const char c : name) event.number(static_cast<std::uint8_t>(c), 2);
    return event.number(0, 4).bytes;
}

// As the firmware measures a program that it loads from a file of a partition.
inline vtpm::Bytes image(std::string_view file) {
    LogWriter path;
    path.number(0x04, 1).number(0x01, 1).number(42, 2).raw(vtpm::Bytes(38, 'p'));  // a partition
    path.number(0x04, 1).number(0x04, 1).number(4 + 2 * (file.size() + 1), 2);
    for (const char c : file) path.number(static_cast<std::uint8_t>(c), 2);
    path.number(0, 2).number(0x7f, 1).number(0xff, 1).number(4, 2);
    LogWriter event;
    return event.number(0x7000'0000, 8).number(4096, 8).number(0, 8).number(path.bytes.size(), 8).raw(path.bytes).bytes;
}
