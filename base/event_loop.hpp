// SPDX-License-Identifier: Apache-2.0
// Thin RAII over sd-event: one loop per process (docs/threat-model.md says why).
#pragma once

#include <systemd/sd-event.h>

#include <chrono>
#include <functional>
#include <memory>

#include "base/result.hpp"
#include "base/turn.hpp"

namespace vtpm {

// A registered source; goes with its owner. Destroying it inside its own callback is allowed.
class EventSource {
public:
    using Callback = std::function<void()>;

    EventSource() = default;
    ~EventSource() { reset(); }
    EventSource(EventSource &&) = default;
    EventSource &operator=(EventSource &&other) noexcept {
        reset();
        state_ = std::move(other.state_);
        return *this;
    }
    EventSource(const EventSource &) = delete;
    EventSource &operator=(const EventSource &) = delete;
    [[nodiscard]] explicit operator bool() const { return state_ != nullptr; }
    // At once, also from within the callback: the descriptor may be closed next, and who has a duplicate of it would
    // keep it in the loop's epoll set.
    void reset() {
        if (state_) (void)sd_event_source_set_enabled(state_->source, SD_EVENT_OFF);
        state_.reset();
    }

private:
    friend class EventLoop;
    struct State {
        sd_event_source *source = nullptr;
        Callback callback;
        ~State() { sd_event_source_disable_unref(source); }
    };
    // Shared with a running callback only, which keeps its function object alive until it returns.
    std::shared_ptr<State> state_;
};

class EventLoop {
public:
    static Result<EventLoop> create();
    EventLoop(EventLoop &&other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
    EventLoop &operator=(EventLoop &&) = delete;
    EventLoop(const EventLoop &) = delete;
    EventLoop &operator=(const EventLoop &) = delete;
    ~EventLoop() { sd_event_unref(event_); }

    // `callback` runs whenever `fd` is readable or hung up. The caller keeps `fd` open as long as the source lives.
    Result<EventSource> on_readable(int fd, EventSource::Callback callback);
    // Runs once, `delay` from now.
    Result<EventSource> after(std::chrono::milliseconds delay, EventSource::Callback callback);
    // Runs once before the loop next waits: after every source that is ready now.
    Result<EventSource> when_idle(EventSource::Callback callback);
    // Each time that `signal` comes; it is blocked for the whole process. Call before any thread starts.
    Result<EventSource> on_signal(int signal, EventSource::Callback callback);
    // SIGTERM and SIGINT end run(). The same holds.
    Result<> stop_on_signals();
    // Feeds systemd's watchdog if the unit has one.
    void feed_watchdog();

    Result<> run();
    // The same for one of several threads: it has `turn`, but while it waits, and lets others have it between
    // callbacks.
    Result<> run(Turn &turn);
    void stop();
    [[nodiscard]] sd_event *raw() { return event_; }

private:
    explicit EventLoop(sd_event *event) : event_(event) {}
    sd_event *event_;
};

}  // namespace vtpm
