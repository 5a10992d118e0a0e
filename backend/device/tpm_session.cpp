// SPDX-License-Identifier: Apache-2.0
#include "backend/device/tpm_session.hpp"

#include <utility>

#include "base/log.hpp"

namespace vtpm {

bool TpmSession::adopt(const Uuid &uuid) {
    engine_ = services_.engines.adopt(id_, uuid, observer_);
    if (!engine_) return false;
    uuid_ = uuid;
    state_ = EngineState::kAdopting;
    return true;
}

Result<> TpmSession::start(const Uuid &uuid, ManagedVtpm vtpm, Beginning beginning, const Incarnation &incarnation) {
    VTPM_ASSIGN(engine_, services_.engines.start_engine(id_, uuid, vtpm.version, std::move(vtpm.state_channel),
                                                        observer_, beginning, incarnation));
    uuid_ = uuid;
    state_ = EngineState::kStarting;
    return {};
}

void TpmSession::stop(const std::optional<Incarnation> &suspended) {
    if (!engine_ || state_ == EngineState::kStopping) return;
    state_ = EngineState::kStopping;
    saves_ = suspended.has_value();
    if (saves_)
        engine_->suspend(*suspended);
    else
        engine_->stop();
    if (auto timer = services_.loop.after(saves_ ? limits::kSave : services_.power_off_limit, [this] {
            log::warning("device {}: the engine does not stop and is killed", to_string(id_));
            if (engine_) engine_->kill();
        }))
        kill_ = std::move(*timer);
}

TpmSession::Ended TpmSession::exited() {
    engine_.reset();
    kill_.reset();
    const bool was_told = std::exchange(state_, EngineState::kNone) == EngineState::kStopping;
    return {was_told, saves_};
}

}  // namespace vtpm
