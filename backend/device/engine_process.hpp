// SPDX-License-Identifier: Apache-2.0
// One engine, as the daemon knows it: its control socket. It is not trusted: it may say what it was asked for.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "backend/xen/ring_opener.hpp"
#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "shared-protocol/messages.hpp"
#include "shared-protocol/meter.hpp"

namespace vtpm {

enum class ExitKind {
    kOrderly,
    kWant,  // it could not be started, or was killed from outside, as for want of memory: that passes
    kFault,
};

// What an engine reports. Called from the loop.
class EngineObserver {
public:
    virtual ~EngineObserver() = default;
    virtual void engine_ready(const Result<> &started) = 0;
    virtual void engine_status(const EngineStatus &status) = 0;
    virtual void ring_attached(const Result<> &attached) = 0;
    virtual void ring_detached() = 0;
    virtual void state_channel_changed(const Result<> &usable) = 0;
    virtual void engine_exited(const std::string &how, ExitKind end) = 0;
};

// Who has started the engine, and hears of its end; by the engine's number.
class EngineParent {
public:
    // An order to stop goes to it by both ends of its control socket: this is the zygote's.
    virtual void release(std::uint32_t engine) = 0;
    virtual void kill(std::uint32_t engine) = 0;
    // Nobody waits for its end any more.
    virtual void forget(std::uint32_t engine) = 0;
    [[nodiscard]] virtual std::optional<MeterReading> meter(std::uint32_t engine, std::uint32_t page) const = 0;

protected:
    ~EngineParent() = default;
};

// Destroying it only means that nobody waits for its end any more.
class EngineProcess {
public:
    // `version`: of its program. `state_protocol`: Channel::kState, as it speaks it. `parent` and `observer` outlive
    // it.
    EngineProcess(EngineParent &parent, std::uint32_t id, std::string version, std::uint32_t state_protocol,
                  UniqueFd control, EngineObserver &observer)
        : parent_(parent),
          id_(id),
          version_(std::move(version)),
          state_protocol_(state_protocol),
          control_(std::move(control)),
          observer_(&observer) {}
    ~EngineProcess() { parent_.forget(id_); }
    EngineProcess(const EngineProcess &) = delete;
    EngineProcess &operator=(const EngineProcess &) = delete;

    void attach_ring(const OpenedRing &ring);
    void detach_ring();
    void replace_state_channel(UniqueFd channel);
    // Asks for an orderly end: TPM2_Shutdown, then exit. engine_exited follows; kill() hastens it.
    void stop();
    // The same, but what the TPM knows is stored for Beginning::kResume.
    void suspend(const Incarnation &incarnation);
    void kill();
    // 0 until the zygote has said so.
    [[nodiscard]] std::uint32_t pid() const { return pid_; }
    // What it has counted. Nothing: it counts where nobody reads.
    [[nodiscard]] std::optional<MeterReading> meter() const { return parent_.meter(id_, meter_); }
    [[nodiscard]] const std::string &version() const { return version_; }
    [[nodiscard]] std::uint32_t state_protocol() const { return state_protocol_; }

    // ---- for its parent ----

    Result<> listen(EventLoop &loop);
    void started(std::uint32_t pid, std::uint32_t meter);
    // It was started by a former daemon: engine_status follows.
    void take_over(std::uint32_t pid, std::uint32_t meter);
    void exited(const std::string &how, ExitKind end);

private:
    // `answers`: so many messages it may send for this one.
    template <typename Message>
    void tell(const Message &message, int answers, std::initializer_list<int> fds = {});
    void receive();
    void end(std::string_view why);

    EngineParent &parent_;
    std::uint32_t id_;
    std::string version_;
    std::uint32_t state_protocol_;
    std::uint32_t pid_ = 0;
    std::uint32_t meter_ = kNoMeter;
    bool is_at_fault_ = false;
    UniqueFd control_;
    EventSource readable_;
    EngineObserver *observer_;
    int may_say_ = 2;  // so many messages: the answers that are due, and, once for each state channel, that it is lost
};

}  // namespace vtpm
