// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/guest_attestations.hpp"

#include <algorithm>

#include "shared-protocol/attest_command.hpp"

namespace vtpm {
namespace {

constexpr std::chrono::seconds kKept{60};      // what nobody fetches
constexpr std::chrono::seconds kPatience{30};  // with who asked, and does not ask again

tl::unexpected<Error> not_yet() { return fail(ErrorCode::kUnavailable, "the attestation is being made: ask again"); }

}  // namespace

Result<std::string> GuestAttestations::ask(const Uuid &vtpm, ByteView nonce, Clock::time_point now) {
    if (!enabled_) return fail(ErrorCode::kRefused, "guest_attestation = false: guests get none");
    if (nonce.size() < kMinAttestNonce || nonce.size() > kMaxAttestNonce)
        return fail(ErrorCode::kInvalid, "a nonce of {} bytes", nonce.size());
    if (const auto took = std::exchange(took_, std::nullopt)) next_ = now + Worker::kPauses * *took;
    Request &request = requests_[vtpm];
    if (request.made && request.made->has_value() && std::ranges::equal(request.nonce, nonce)) {
        const auto made = std::exchange(request.made, nullptr);
        return std::move(**made);
    }
    const bool in_the_making = request.made && !request.made->has_value();
    if (!in_the_making && (!request.begun || now - *request.begun >= kInterval)) {
        if (!request.asked) turns_.push_back(vtpm);
        request.asked = now;
        request.nonce.assign(nonce.begin(), nonce.end());
        request.made.reset();
    }
    begin_next(now);
    return not_yet();
}

void GuestAttestations::begin_next(Clock::time_point now) {
    while (!busy_ && now >= next_ && !turns_.empty()) {
        const Uuid vtpm = turns_.front();
        turns_.pop_front();
        Request &request = requests_[vtpm];
        const auto asked = std::exchange(request.asked, std::nullopt);
        if (asked && now - *asked < kPatience) begin(vtpm, request, now);
    }
}

void GuestAttestations::begin(const Uuid &vtpm, Request &request, Clock::time_point now) {
    busy_ = true;
    request.begun = now;
    request.made = std::make_shared<std::optional<Result<std::string>>>();
    struct Job {
        std::optional<Result<std::string>> result{};
        Clock::duration took{};
    };
    const auto made = std::make_shared<Job>();
    const auto job = [this, vtpm, nonce = request.nonce, made] {
        const auto began = Clock::now();
        made->result = attestor_.attest(vtpm, nonce, std::nullopt, Attestor::Asked::kByTheGuest)
                           .map([](const Attestation &attestation) { return attestation.to_json(); });
        made->took = Clock::now() - began;
    };
    // The slot is filled in the loop.
    const auto done = [this, slot = request.made, made] {
        *slot = std::move(made->result);
        took_ = made->took;
        busy_ = false;
    };
    worker_.run(job, done, Worker::Haste::kNone);
    forget_old(now);
}

void GuestAttestations::forget_old(Clock::time_point now) {
    std::erase_if(requests_, [&](const auto &entry) {
        const Request &request = entry.second;
        if (request.asked) return false;
        if (!request.begun) return true;  // it lost its turn
        const auto age = now - *request.begun;
        return request.made ? request.made->has_value() && age >= kKept : age >= kInterval;
    });
}

}  // namespace vtpm
