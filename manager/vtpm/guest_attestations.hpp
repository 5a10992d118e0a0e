// SPDX-License-Identifier: Apache-2.0
// Attestations that guests ask for, each of itself: one at a time of all of them, in the order in which they asked, one
// in a while of each, and after whatever else waits for the hardware TPM. All together take no more than a seventh of
// its time, so that it is there for the others, the administrator, and for dom0's own use.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <optional>

#include "manager/groups/attestor.hpp"
#include "manager/groups/worker.hpp"

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
        Bytes nonce{};
        std::optional<Clock::time_point> asked{};  // while it waits for its turn: when it last asked
        std::optional<Clock::time_point> begun{};
        // Of the worker's job. Null: none, or it was given away.
        std::shared_ptr<std::optional<Result<std::string>>> made{};
    };
    void begin_next(Clock::time_point now);
    void begin(const Uuid &vtpm, Request &request, Clock::time_point now);
    void forget_old(Clock::time_point now);

    Worker &worker_;
    Attestor &attestor_;
    bool enabled_;
    bool busy_ = false;
    std::optional<Clock::duration> took_;  // the last one, until somebody asks after it
    Clock::time_point next_{};
    std::map<Uuid, Request> requests_;
    std::deque<Uuid> turns_;
};

}  // namespace vtpm
