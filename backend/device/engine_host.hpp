// SPDX-License-Identifier: Apache-2.0
// Starts engines by the zygote and speaks with them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "backend/xen/ring_opener.hpp"
#include "base/event_loop.hpp"
#include "base/unique_fd.hpp"
#include "base/uuid.hpp"
#include "shared-protocol/messages.hpp"

namespace vtpm {

class EngineHost;

// What an engine reports. Called from the loop.
class EngineObserver {
public:
    virtual ~EngineObserver() = default;
    virtual void engine_ready(const Result<> &started) = 0;
    virtual void ring_attached(const Result<> &attached) = 0;
    virtual void ring_detached() = 0;
    virtual void state_channel_changed(const Result<> &usable) = 0;
    virtual void engine_exited(const std::string &how, bool orderly) = 0;
};

// One engine process. Destroying it means that nobody waits for its end; it is told to end all the same.
class EngineProcess {
public:
    ~EngineProcess();
    EngineProcess(const EngineProcess &) = delete;
    EngineProcess &operator=(const EngineProcess &) = delete;

    void attach_ring(const OpenedRing &ring);
    void detach_ring();
    void replace_state_channel(UniqueFd channel);
    // Asks for an orderly end: TPM2_Shutdown, then exit. engine_exited follows; kill() hastens it.
    void stop() {
        readable_.reset();
        control_.reset();
    }
    void kill();
    // 0 until the zygote has said so.
    [[nodiscard]] std::uint32_t pid() const { return pid_; }

private:
    friend class EngineHost;
    EngineProcess(EngineHost &host, std::uint32_t id, UniqueFd control, EngineObserver &observer)
        : host_(host), id_(id), control_(std::move(control)), observer_(&observer) {}
    template <typename Message>
    void tell(const Message &message, std::initializer_list<int> fds = {});
    void receive();

    EngineHost &host_;
    std::uint32_t id_;
    std::uint32_t pid_ = 0;
    UniqueFd control_;
    EventSource readable_;
    EngineObserver *observer_;
};

class EngineHost {
public:
    // Runs `program` as the zygote. `lost` is called if it ends: engines then end too, and so should the daemon.
    static Result<std::unique_ptr<EngineHost>> start(EventLoop &loop, const std::string &program,
                                                     std::function<void()> lost);

    // engine_ready follows. `observer` outlives the returned object.
    Result<std::unique_ptr<EngineProcess>> start_engine(const Uuid &uuid, TpmVersion version, UniqueFd state_channel,
                                                        EngineObserver &observer);

private:
    friend class EngineProcess;
    EngineHost(EventLoop &loop, UniqueFd control, std::function<void()> lost)
        : loop_(loop), control_(std::move(control)), lost_(std::move(lost)) {}
    void receive();
    void started(const EngineStarted &report);
    void exited(const EngineExited &report);
    std::uint32_t free_slot() const;

    EventLoop &loop_;
    UniqueFd control_;
    EventSource readable_;
    std::function<void()> lost_;
    std::uint32_t next_id_ = 1;
    struct Running {
        std::uint32_t slot;
        EngineProcess *process;  // null: nobody waits for its end any more
    };
    std::map<std::uint32_t, Running> running_;
};

}  // namespace vtpm
