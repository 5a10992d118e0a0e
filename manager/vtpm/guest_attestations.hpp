// SPDX-License-Identifier: Apache-2.0
// Attestations that guests ask for, each of itself: one at a time of all of them, one in a while of each, so that no
// guest keeps the hardware TPM busy for the others or for the administrator.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>

#include "manager/attestation/attestor.hpp"
#include "manager/worker.hpp"

namespace vtpm {

class GuestAttestations {
public:
    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::seconds kInterval{10};

    // `enabled`: the configuration's word.
    GuestAttestations(Worker &worker, Attestor &attestor, bool enabled)
        : worker_(worker), attestor_(attestor), enabled_(enabled) {}

    // Never waits. kUnavailable: it is being made, or others come first: ask again, with the same nonce. Given once.
    // Any other error: there is none to be had.
    Result<std::string> ask(const Uuid &vtpm, ByteView nonce, Clock::time_point now = Clock::now());

private:
    struct Request {
        Bytes nonce;
        Clock::time_point begun;
        // Of the worker's job. Null: it was given away.
        std::shared_ptr<std::optional<Result<std::string>>> made;
    };
    Result<std::string> begin(const Uuid &vtpm, ByteView nonce, Clock::time_point now);
    void forget_old(Clock::time_point now);

    Worker &worker_;
    Attestor &attestor_;
    bool enabled_;
    bool busy_ = false;
    std::map<Uuid, Request> requests_;
};

}  // namespace vtpm
