// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/host_pcrs.hpp"

#include <openssl/sha.h>

#include "shared-protocol/tpm_message.hpp"

namespace vtpm {
namespace {

constexpr std::uint32_t kPcrEvent = 0x13C;  // TPM_CC_PCR_Event
constexpr std::uint32_t kExtend = 0x14;     // TPM_ORD_Extend

// TPM2_PCR_Event, by the PCR's empty password.
Bytes event_20(unsigned pcr, ByteView value) {
    const BigEndian rest = BigEndian().u32(pcr).raw(empty_password()).sized(value);
    return tpm_message(kTpmSessions, kPcrEvent, rest.bytes());
}

Bytes extend_12(unsigned pcr, ByteView value) {
    Bytes digest(SHA_DIGEST_LENGTH);
    SHA1(value.data(), value.size(), digest.data());
    return tpm_message(kTpm12Request, kExtend, BigEndian().u32(pcr).raw(digest).bytes());
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
