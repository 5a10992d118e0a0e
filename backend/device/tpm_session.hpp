// SPDX-License-Identifier: Apache-2.0
// A device's engine: started or taken over, suspended or powered off.
#pragma once

#include <memory>
#include <optional>

#include "backend/device/device_services.hpp"
#include "backend/device/engine_process.hpp"
#include "backend/device/next_step.hpp"

namespace vtpm {

class TpmSession {
public:
    TpmSession(DeviceServices &services, DeviceId id, EngineObserver &observer)
        : services_(services), id_(id), observer_(observer) {}

    [[nodiscard]] EngineState state() const { return state_; }
    [[nodiscard]] EngineProcess *engine() const { return engine_.get(); }  // null: there is none
    // Of the engine.
    [[nodiscard]] const Uuid &uuid() const { return uuid_; }

    // Whether a former daemon has left one: its engine_status() follows.
    [[nodiscard]] bool adopt(const Uuid &uuid);
    // The manager is asked for its state; what it answers ends that.
    void opens() { state_ = EngineState::kOpening; }
    void opened() { state_ = EngineState::kNone; }
    // Its engine_ready() follows.
    Result<> start(const Uuid &uuid, ManagedVtpm vtpm, Beginning beginning, const Incarnation &incarnation);
    void runs() { state_ = EngineState::kRunning; }
    // Suspends it, if its guest was; otherwise powers it off. Its engine_exited() follows: it is killed if it takes too
    // long. Nothing, if there is none, or it stops already.
    void stop(const std::optional<Incarnation> &suspended);

    struct Ended {
        bool was_told;     // to stop
        bool was_to_save;  // and not only to stop
    };
    Ended exited();

private:
    DeviceServices &services_;
    DeviceId id_;
    EngineObserver &observer_;
    Uuid uuid_{};
    EngineState state_ = EngineState::kNone;
    std::unique_ptr<EngineProcess> engine_;
    bool saves_ = false;
    EventSource kill_;
};

}  // namespace vtpm
