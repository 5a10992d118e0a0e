// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/engine.hpp"

#include <poll.h>

#include <array>

#include "backend/engine/command_limit.hpp"
#include "shared-protocol/time_limits.hpp"

namespace vtpm {
namespace {

// So often a guest may ring between two commands; at most once in kSilence after that.
constexpr unsigned kIdleRings = 64;
constexpr std::chrono::milliseconds kSilence{10};

}  // namespace

// A daemon that has let go does not hear it: that is no error, the end of its orders follows and powers the TPM off.
template <typename Message>
void Engine::tell(const Message &message) {
    (void)send(control_.get(), message);
}

Result<> Engine::run() {
    tpm_->set_await_manager([this](const Tpm::Take &take) { return await_manager(take); });
    while (!ended_) {
        const std::optional<std::chrono::milliseconds> silence = silence_left();
        const bool listens = ring_ && !silence;
        pollfd waiting[2] = {{control_.get(), POLLIN, 0}, {listens ? ring_->events->fd() : -1, POLLIN, 0}};
        if (::poll(waiting, 2, postponed_ ? 0 : silence ? static_cast<int>(silence->count()) : -1) < 0) {
            if (errno == EINTR) continue;
            return fail_errno("poll");
        }
        took_order_ = false;
        if (waiting[1].revents != 0) {
            ring_->events->begin();
            VTPM_TRY(serve());
            if (!ring_->silent_until) ring_->events->end();
        }
        if (postponed_) {
            VTPM_TRY(obey(*std::exchange(postponed_, std::nullopt)));
        } else if (waiting[0].revents != 0 && !took_order_) {
            VTPM_ASSIGN(Order order, receive());
            VTPM_TRY(obey(std::move(order)));
        }
    }
    ring_.reset();
    return suspended_ ? tpm_->suspend(*suspended_) : tpm_->power_off();
}

// Events that mean nothing are for the guest to pay: its port stays masked, and no storm of them wakes anybody.
std::optional<std::chrono::milliseconds> Engine::silence_left() {
    if (!ring_ || !ring_->silent_until) return std::nullopt;
    const auto left = *ring_->silent_until - std::chrono::steady_clock::now();
    if (left.count() > 0) return std::chrono::ceil<std::chrono::milliseconds>(left);
    ring_->silent_until.reset();
    ring_->events->end();
    return std::nullopt;
}

// One command: one wake-up, one notification.
Result<> Engine::serve() {
    const SharedPage::Taken taken = ring_->page.take();
    ring_->idle_rings = taken.event == SharedPage::Event::kCommand ? 0 : ring_->idle_rings + 1;
    if (ring_->idle_rings > kIdleRings) ring_->silent_until = std::chrono::steady_clock::now() + kSilence;
    switch (taken.event) {
        case SharedPage::Event::kNothing:
            return {};
        case SharedPage::Event::kCancel:
            ring_->page.acknowledge_cancel();
            break;
        case SharedPage::Event::kMalformed:
            ring_->page.publish(tpm_->answer_fault(GuestFault::kMalformed));
            break;
        case SharedPage::Event::kCommand: {
            const auto began = std::chrono::steady_clock::now();
            const CommandUnderWay limited;
            const auto response = tpm_->execute(taken.command, taken.locality);
            if (!response) return tl::make_unexpected(response.error());
            const bool fits = response->size() <= ring_->page.room();
            ring_->page.publish(fits ? *response : tpm_->answer_fault(GuestFault::kFailure));
            meter_.count(std::chrono::steady_clock::now() - began, return_code(*response));
            meter_.set_stores(tpm_->stores());
            break;
        }
    }
    ring_->events->notify();
    tpm_->store_clock_if_due();  // the guest does not wait for it
    report_lost_channel();
    return {};
}

Result<Engine::Order> Engine::receive() {
    std::array<std::uint8_t, kMaxSmallMessage> buffer;
    VTPM_ASSIGN(Received received, receive_message(control_.get(), buffer));
    const ByteView message = ByteView(buffer).first(received.size);
    return Order{Bytes(message.begin(), message.end()), std::move(received)};
}

Result<> Engine::obey(Order order) {
    if (order.message.empty()) {
        ended_ = true;
        return {};
    }
    switch (message_type(order.message)) {
        case AttachRing::kType: {
            VTPM_ASSIGN(const AttachRing attach_order, decode<AttachRing>(order.message));
            return attach(attach_order, order.received);
        }
        case DetachRing::kType:
            ring_.reset();
            tell(RingDetached{});
            return {};
        case ReplaceStateChannel::kType:
            (void)replace_channel(order.received,
                                  [this](ManagerChannel channel) { return tpm_->replace_channel(std::move(channel)); });
            return {};
        case SuspendTpm::kType: {
            VTPM_ASSIGN(const SuspendTpm suspend, decode<SuspendTpm>(order.message));
            suspended_ = suspend.incarnation;
            ended_ = true;
            return {};
        }
        case AskStatus::kType:
            tell(status());
            return {};
        default:
            return fail(ErrorCode::kInvalid, "an order of unknown type {}", message_type(order.message));
    }
}

Result<> Engine::attach(const AttachRing &order, Received &received) {
    ring_.reset();
    auto ring = open_ring(order, received);
    if (!ring) {
        tell(RingAttached{ring.error().code, ring.error().text});
        return {};
    }
    ring_ = std::move(*ring);
    tell(RingAttached{});
    return serve();  // Linux submits its first command before we are connected
}

Result<Engine::Ring> Engine::open_ring(const AttachRing &order, Received &received) {
    const bool xen = order.transport == Transport::kXen;
    auto page = xen ? SharedPage::map_grant(received.fds[0].get(), order.grant_index, order.port)
                    : SharedPage::map_memory(received.fds[0].get());
    if (!page) return tl::make_unexpected(page.error());
    auto events = xen ? EventChannel::xen(std::move(received.fds[1]), order.port)
                      : EventChannel::loopback(std::move(received.fds[1]), std::move(received.fds[2]));
    return Ring{std::move(*page), std::move(events), order.ring_ref, order.event_channel};
}

EngineStatus Engine::status() {
    tpm_->look_at_channel();
    const ErrorCode stores = tpm_->can_store() ? ErrorCode::kNone : ErrorCode::kUnavailable;
    return ring_ ? EngineStatus{stores, ring_->ring_ref, ring_->event_channel} : EngineStatus{stores};
}

Result<> Engine::replace_channel(Received &received, const Tpm::Take &take) {
    Result<> taken = take(ManagerChannel(std::move(received.fds[0])));
    channel_reported_lost_ = false;
    tell(taken ? StateChannelStatus{} : StateChannelStatus{taken.error().code, taken.error().text});
    return taken;
}

// A command's change waits for a manager that is being restarted. A daemon that was restarted, too, is told what it
// asks; any other order but the one it waits for ends the wait, and comes to its turn.
Result<> Engine::await_manager(const Tpm::Take &take) {
    report_lost_channel();
    const auto deadline = std::chrono::steady_clock::now() + limits::kManagerRestart;
    while (!postponed_) {
        const auto left = std::chrono::floor<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        VTPM_TRY(wait_readable(control_.get(), left));
        took_order_ = true;
        VTPM_ASSIGN(Order order, receive());
        const std::uint16_t type = message_type(order.message);
        if (type == ReplaceStateChannel::kType) {
            const auto taken = replace_channel(order.received, take);
            // Unless it has gone again: another one follows.
            if (taken || taken.error().code != ErrorCode::kUnavailable) return taken;
        } else if (type == AskStatus::kType) {
            tell(status());
        } else {
            postponed_ = std::move(order);
        }
    }
    return fail(ErrorCode::kUnavailable, "the daemon wants something else");
}

void Engine::report_lost_channel() {
    if (tpm_->can_store() || channel_reported_lost_) return;
    channel_reported_lost_ = true;
    tell(StateChannelStatus{ErrorCode::kUnavailable, "the manager closed the state channel"});
}

}  // namespace vtpm
