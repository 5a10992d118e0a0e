// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/host_pcrs.hpp"

#include <openssl/sha.h>

#include "shared-protocol/tpmif.h"

namespace vtpm {
namespace {

// Its last parameter, and its size.
Bytes completed(Bytes command, ByteView data) {
    command.insert(command.end(), data.begin(), data.end());
    require(command.size() <= 0xff, "a PCR's value is short: the sizes below are one byte");
    command[TPM_MESSAGE_SIZE_OFFSET + 3] = static_cast<std::uint8_t>(command.size());
    return command;
}

// TPM2_PCR_Event, by the PCR's empty password.
Bytes event_20(unsigned pcr, ByteView value) {
    return completed({0x80, 0x02,
                      0,    0,
                      0,    0,  // TPM_ST_SESSIONS
                      0,    0,
                      0x01, 0x3C,  // TPM_CC_PCR_Event
                      0,    0,
                      0,    static_cast<std::uint8_t>(pcr),  //
                      0,    0,
                      0,    9,
                      0x40, 0,
                      0,    0x09,
                      0,    0,
                      0,    0,
                      0,  // TPM_RS_PW
                      0,    static_cast<std::uint8_t>(value.size())},
                     value);
}

Bytes extend_12(unsigned pcr, ByteView value) {
    Bytes digest(SHA_DIGEST_LENGTH);
    SHA1(value.data(), value.size(), digest.data());
    return completed({0x00, 0xC1, 0, 0, 0, 0,  // TPM_TAG_RQU_COMMAND
                      0, 0, 0, 0x14,           // TPM_ORD_Extend
                      0, 0, 0, static_cast<std::uint8_t>(pcr)},
                     digest);
}

}  // namespace

Bytes host_measurements(TpmVersion version, const PcrValues &values) {
    Bytes commands;
    for (const auto &[pcr, value] : values) {
        const Bytes command = version == TpmVersion::k12 ? extend_12(pcr, value) : event_20(pcr, value);
        commands.insert(commands.end(), command.begin(), command.end());
    }
    return commands;
}

Result<Bytes> HostPcrs::measure(TpmVersion version) const {
    const auto values = keys_.read(pcrs_);
    if (!values)
        return fail(
            values.error().code,
            "the host's PCRs, which it is to show (host_pcrs), cannot be read: {}; power its guest on again when "
            "they can",
            values.error().text);
    return host_measurements(version, *values);
}

}  // namespace vtpm
