// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/host_pcrs.hpp"

#include <algorithm>
#include <memory>
#include <utility>

#include "launch/hashes.hpp"

namespace vtpm {
namespace {

constexpr std::chrono::steady_clock::duration kLongestPause = std::chrono::seconds(1);

}  // namespace

PcrValues HostPcrs::blank() const {
    PcrValues values;
    if (pcrs_.empty()) return values;
    const auto bank = launch::hash_of_algorithm(pcrs_.tpm().pcrSelections[0].hash);
    for (const unsigned pcr : pcrs_.numbers()) values[pcr] = Bytes(bank ? launch::digest_size(*bank) : 0);
    return values;
}

void HostPcrs::measure(Done done) {
    asked_.push_back(std::move(done));
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
    Result<PcrValues> values = reading.values;
    if (!values)
        values = fail(values.error().code,
                      "the host's PCRs, which it is to show (host_pcrs), cannot be read: {}; power its guest on again "
                      "when they can",
                      values.error().text);
    for (const Done &done : reading.by) done(values);
}

}  // namespace vtpm
