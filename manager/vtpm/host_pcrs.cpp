// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/host_pcrs.hpp"

#include <openssl/sha.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "shared-protocol/tpm_message.hpp"

namespace vtpm {
namespace {

constexpr std::uint32_t kPcrEvent = 0x13C;  // TPM_CC_PCR_Event
constexpr std::uint32_t kExtend = 0x14;     // TPM_ORD_Extend

constexpr std::chrono::steady_clock::duration kLongestPause = std::chrono::seconds(1);

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

void HostPcrs::measure(TpmVersion version, Done done) {
    asked_.push_back({version, std::move(done)});
    if (!ordered_) order();
}

void HostPcrs::order() {
    ordered_ = true;
    const auto pause = std::chrono::ceil<std::chrono::milliseconds>(next_ - Clock::now());
    if (pause.count() <= 0) return read();
    auto timer = loop_.after(pause, [this] { read(); });
    if (!timer) return read();
    pause_ = std::move(*timer);
}

void HostPcrs::read() {
    const auto reading = std::make_shared<Reading>();
    const auto job = [this, reading] {
        // Who comes from now on is served by the next one: the TPM may have answered already.
        reading->by = std::exchange(asked_, {});
        const auto began = Clock::now();
        reading->values = keys_.read(pcrs_);
        reading->took = Clock::now() - began;
    };
    worker_.run(job, [this, reading] { read_done(*reading); });
}

void HostPcrs::read_done(const Reading &reading) {
    next_ = Clock::now() + std::min(Worker::kPauses * reading.took, kLongestPause);
    ordered_ = false;
    if (!asked_.empty()) order();
    for (const auto &[version, done] : reading.by) {
        if (reading.values)
            done(host_measurements(version, *reading.values));
        else
            done(fail(reading.values.error().code,
                      "the host's PCRs, which it is to show (host_pcrs), cannot be read: {}; power its guest on again "
                      "when they can",
                      reading.values.error().text));
    }
}

}  // namespace vtpm
