// SPDX-License-Identifier: Apache-2.0
#include "backend/device/ring_link.hpp"

#include <utility>

#include "backend/device/retry.hpp"

namespace vtpm {

std::optional<RingNumbers> RingLink::published() const {
    const auto ring_ref = services_.xenstore.read_number(path_ + "/" TPMIF_KEY_RING_REF);
    const auto event_channel = services_.xenstore.read_number(path_ + "/" TPMIF_KEY_EVENT_CHANNEL);
    if (!ring_ref || !event_channel) return std::nullopt;
    return RingNumbers{*ring_ref, *event_channel};
}

void RingLink::forget_refusal(XenbusState frontend) {
    if (state_ == RingState::kRefused && (!wants_ring(frontend) || published() != refused_)) state_ = RingState::kNone;
}

// The same ring, or has the frontend started over without our seeing it close?
bool RingLink::is_current(XenbusState frontend) const {
    if (state_ != RingState::kAttached || !wants_ring(frontend)) return false;
    const bool started_over = frontend == XenbusState::kInitialised && frontend_was_connected_;
    return !started_over && published() == attached_;
}

Result<> RingLink::attach(EngineProcess &engine) {
    const auto numbers = published();
    if (!numbers || services_.xenstore.read_number(path_ + "/" TPMIF_KEY_PROTOCOL_V2) != 1u)
        return refuse(numbers,
                      {ErrorCode::kInvalid, "ring-ref, event-channel or feature-protocol-v2 is missing or malformed"});
    auto ring = services_.rings.open(id_.domain, *numbers);
    if (!ring) return refuse(numbers, ring.error());
    ring->order.ring_ref = numbers->ring_ref;
    ring->order.event_channel = numbers->event_channel;
    attached_ = numbers;
    frontend_was_connected_ = false;
    state_ = RingState::kAttaching;
    engine.attach_ring(*ring);
    return {};
}

Result<> RingLink::attached(const Result<> &answer) {
    state_ = answer ? RingState::kAttached : RingState::kNone;
    if (!answer) return refuse(std::exchange(attached_, std::nullopt), answer.error());
    return {};
}

tl::unexpected<Error> RingLink::refuse(const std::optional<RingNumbers> &numbers, Error error) {
    if (!passes(error.code)) {
        state_ = RingState::kRefused;
        refused_ = numbers;
    }
    return tl::make_unexpected(std::move(error));
}

void RingLink::detach(EngineProcess &engine) {
    state_ = RingState::kDetaching;
    attached_.reset();
    engine.detach_ring();
}

void RingLink::take_over(RingNumbers numbers, bool frontend_was_connected) {
    attached_ = numbers;
    state_ = RingState::kAttached;
    frontend_was_connected_ = frontend_was_connected;
}

void RingLink::lose() {
    state_ = RingState::kNone;
    attached_.reset();
}

}  // namespace vtpm
