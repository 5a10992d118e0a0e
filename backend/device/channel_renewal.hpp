// SPDX-License-Identifier: Apache-2.0
// The state channel of a device's engine: after a manager's restart, and when it is lost, the engine gets another one,
// however long that takes.
#pragma once

#include <functional>
#include <memory>

#include "backend/device/device_services.hpp"
#include "backend/device/retry.hpp"
#include "backend/device/tpm_session.hpp"
#include "base/allowance.hpp"

namespace vtpm {

class ChannelRenewal {
public:
    // Whether the TPM stores, and why not: told each time that it is known anew.
    using Tell = std::function<void(const Result<> &stores)>;

    ChannelRenewal(DeviceServices &services, const TpmSession &session, Tell tell);
    ~ChannelRenewal() = default;
    ChannelRenewal(const ChannelRenewal &) = delete;
    ChannelRenewal &operator=(const ChannelRenewal &) = delete;

    void manager_is_back();
    // What was due while the engine started.
    void engine_runs();
    // An engine that was taken over: it knows what its channel is worth, and the manager may have been restarted.
    void take_over(bool stores);
    // The engine's answer to a new channel, or its word that the present one is lost: then a command may wait for the
    // next.
    void changed(const Result<> &usable);
    // Whoever waits for the device to leave does so for some seconds only.
    void hurry();
    // The engine has ended.
    void end();

    // Not while the manager is being restarted.
    [[nodiscard]] bool can_store() const;

private:
    // None is due; a timer, or the engine, is waited for; the manager is asked; the engine takes the new one.
    enum class Renewal { kNone, kWaiting, kAsked, kTaking };

    void renew();
    void renew_in(std::chrono::milliseconds delay);
    void renew_later(const Error &error);
    void renewed(Result<ManagedVtpm> answer);
    void stores_again();

    DeviceServices &services_;
    const TpmSession &session_;
    Tell tell_;
    bool stores_ = true;  // the engine has not said otherwise
    bool hurries_ = false;
    Renewal renewal_ = Renewal::kNone;
    Backoff pause_;
    Allowance allowance_;
    EventSource timer_;
    std::shared_ptr<ChannelRenewal *> self_;  // answers of the manager may come after the device has gone
};

}  // namespace vtpm
