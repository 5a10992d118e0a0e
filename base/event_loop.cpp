// SPDX-License-Identifier: Apache-2.0
#include "base/event_loop.hpp"

#include <sys/epoll.h>
#include <sys/signalfd.h>

#include <csignal>
#include <limits>

namespace vtpm {
namespace {

// sd-event reports errors as negative errno values.
Result<> check(int returned, const char *what) {
    if (returned >= 0) return {};
    errno = -returned;
    return fail_errno("{}", what);
}

// The C callbacks differ only in arguments that we do not need. None lets an exception reach C.
void dispatch(void *userdata) noexcept {
    auto *weak = static_cast<std::weak_ptr<void> *>(userdata);
    if (auto alive = weak->lock()) (*static_cast<EventSource::Callback *>(alive.get()))();
}

int dispatch_io(sd_event_source *, int, std::uint32_t, void *userdata) noexcept {
    dispatch(userdata);
    return 0;
}
int dispatch_time(sd_event_source *, std::uint64_t, void *userdata) noexcept {
    dispatch(userdata);
    return 0;
}
int dispatch_signal(sd_event_source *, const signalfd_siginfo *, void *userdata) noexcept {
    dispatch(userdata);
    return 0;
}
int dispatch_defer(sd_event_source *, void *userdata) noexcept {
    dispatch(userdata);
    return 0;
}

Result<> block(std::initializer_list<int> signals) {
    sigset_t mask;
    sigemptyset(&mask);
    for (const int signal : signals) sigaddset(&mask, signal);
    return ::sigprocmask(SIG_BLOCK, &mask, nullptr) == 0 ? Result<>{} : fail_errno("sigprocmask");
}

void destroy_weak(void *userdata) { delete static_cast<std::weak_ptr<void> *>(userdata); }

}  // namespace

Result<EventLoop> EventLoop::create() {
    sd_event *event = nullptr;
    VTPM_TRY(check(sd_event_new(&event), "sd_event_new"));
    return EventLoop(event);
}

namespace {

// sd-event owns the weak reference (freed by its destroy callback), the caller owns the state.
template <typename State, typename Add>
Result<> attach(const std::shared_ptr<State> &state, Add add) {
    auto weak = std::make_unique<std::weak_ptr<void>>(std::shared_ptr<void>(state, &state->callback));
    VTPM_TRY(check(add(&state->source, weak.get()), "sd_event_add"));
    sd_event_source_set_destroy_callback(state->source, destroy_weak);
    (void)weak.release();
    return {};
}

}  // namespace

Result<EventSource> EventLoop::on_readable(int fd, EventSource::Callback callback) {
    EventSource source;
    source.state_ = std::make_shared<EventSource::State>();
    source.state_->callback = std::move(callback);
    VTPM_TRY(attach(source.state_, [&](sd_event_source **out, void *data) {
        return sd_event_add_io(event_, out, fd, EPOLLIN, dispatch_io, data);
    }));
    return source;
}

Result<EventSource> EventLoop::after(std::chrono::milliseconds delay, EventSource::Callback callback) {
    EventSource source;
    source.state_ = std::make_shared<EventSource::State>();
    source.state_->callback = std::move(callback);
    const auto microseconds = static_cast<std::uint64_t>(std::chrono::microseconds(delay).count());
    VTPM_TRY(attach(source.state_, [&](sd_event_source **out, void *data) {
        return sd_event_add_time_relative(event_, out, CLOCK_MONOTONIC, microseconds, 0, dispatch_time, data);
    }));
    return source;
}

Result<EventSource> EventLoop::when_idle(EventSource::Callback callback) {
    EventSource source;
    source.state_ = std::make_shared<EventSource::State>();
    source.state_->callback = std::move(callback);
    VTPM_TRY(attach(source.state_, [&](sd_event_source **out, void *data) {
        return sd_event_add_defer(event_, out, dispatch_defer, data);
    }));
    VTPM_TRY(check(sd_event_source_set_priority(source.state_->source, SD_EVENT_PRIORITY_IDLE), "set_priority"));
    return source;
}

Result<EventSource> EventLoop::on_signal(int signal, EventSource::Callback callback) {
    VTPM_TRY(block({signal}));
    EventSource source;
    source.state_ = std::make_shared<EventSource::State>();
    source.state_->callback = std::move(callback);
    VTPM_TRY(attach(source.state_, [&](sd_event_source **out, void *data) {
        return sd_event_add_signal(event_, out, signal, dispatch_signal, data);
    }));
    return source;
}

Result<> EventLoop::stop_on_signals() {
    VTPM_TRY(block({SIGTERM, SIGINT}));
    VTPM_TRY(check(sd_event_add_signal(event_, nullptr, SIGTERM, nullptr, nullptr), "SIGTERM"));
    return check(sd_event_add_signal(event_, nullptr, SIGINT, nullptr, nullptr), "SIGINT");
}

void EventLoop::feed_watchdog() { (void)sd_event_set_watchdog(event_, 1); }

Result<> EventLoop::run() { return check(sd_event_loop(event_), "sd_event_loop"); }

// sd_event_loop() with the turn given away where it waits.
Result<> EventLoop::run(Turn &turn) {
    while (sd_event_get_state(event_) != SD_EVENT_FINISHED) {
        int ready = sd_event_prepare(event_);
        {
            const TurnGiven given(turn);
            if (ready == 0) ready = sd_event_wait(event_, std::numeric_limits<std::uint64_t>::max());
        }
        if (ready > 0) ready = sd_event_dispatch(event_);
        VTPM_TRY(check(ready, "sd_event"));
    }
    return {};
}

void EventLoop::stop() { (void)sd_event_exit(event_, 0); }

}  // namespace vtpm
