// SPDX-License-Identifier: Apache-2.0
// A device's ring: what its frontend has published, and how far the engine is with that.
#pragma once

#include <optional>
#include <string>

#include "backend/device/device_services.hpp"
#include "backend/device/engine_process.hpp"
#include "backend/device/next_step.hpp"

namespace vtpm {

class RingLink {
public:
    RingLink(DeviceServices &services, DeviceId id) : services_(services), id_(id), path_(frontend_path(id)) {}

    [[nodiscard]] RingState state() const { return state_; }
    // What was refused is so until the frontend has started over, or published another.
    void forget_refusal(XenbusState frontend);
    // The attached ring is the one that the frontend has published.
    [[nodiscard]] bool is_current(XenbusState frontend) const;
    // Once it is known to be.
    void saw(XenbusState frontend) { frontend_was_connected_ = frontend == XenbusState::kConnected; }

    // Opens what is published, for this engine: attached() follows. An error that passes (retry.hpp) leaves it to be
    // tried again; by any other what was published is refused.
    Result<> attach(EngineProcess &engine);
    // The engine's answer; the same errors.
    Result<> attached(const Result<> &answer);
    // detached() follows.
    void detach(EngineProcess &engine);
    void detached() { state_ = RingState::kNone; }
    // An engine that was taken over has it.
    void take_over(RingNumbers numbers, bool frontend_was_connected);
    // The engine has gone, or is about to.
    void lose();

private:
    [[nodiscard]] std::optional<RingNumbers> published() const;
    tl::unexpected<Error> refuse(const std::optional<RingNumbers> &numbers, Error error);

    DeviceServices &services_;
    DeviceId id_;
    std::string path_;  // the frontend's
    RingState state_ = RingState::kNone;
    std::optional<RingNumbers> attached_;
    std::optional<RingNumbers> refused_;   // while state_ says so
    bool frontend_was_connected_ = false;  // since the ring was attached
};

}  // namespace vtpm
