// SPDX-License-Identifier: Apache-2.0
#include "backend/device/channel_renewal.hpp"

#include <utility>

namespace vtpm {
namespace {

// Of new state channels. An engine that was taken over could lose each at once.
constexpr int kRenewBurst = 20;
constexpr std::chrono::seconds kRenewInterval{1};

}  // namespace

ChannelRenewal::ChannelRenewal(DeviceServices &services, const TpmSession &session, Tell tell)
    : services_(services),
      session_(session),
      tell_(std::move(tell)),
      allowance_(kRenewBurst, kRenewInterval),
      self_(std::make_shared<ChannelRenewal *>(this)) {}

void ChannelRenewal::manager_is_back() {
    if (session_.state() == EngineState::kStarting) renewal_ = Renewal::kWaiting;  // see engine_runs()
    renew();
}

void ChannelRenewal::engine_runs() {
    if (renewal_ != Renewal::kNone) renew();
}

void ChannelRenewal::take_over(bool stores) {
    stores_ = stores;
    renew();
}

void ChannelRenewal::changed(const Result<> &usable) {
    stores_ = usable.has_value();
    if (usable) return stores_again();
    tell_(usable);
    if (renewal_ == Renewal::kTaking) return renew_later(usable.error());
    if (renewal_ != Renewal::kAsked) renew();
}

void ChannelRenewal::hurry() {
    hurries_ = true;
    if (renewal_ == Renewal::kWaiting) renew();
}

void ChannelRenewal::end() {
    timer_.reset();
    renewal_ = Renewal::kNone;
}

bool ChannelRenewal::can_store() const {
    return services_.manager.connected() && stores_ && renewal_ == Renewal::kNone;
}

void ChannelRenewal::renew() {
    if (session_.state() != EngineState::kRunning) return;
    if (!allowance_.take()) return renew_in(kRetry);
    renewal_ = Renewal::kAsked;
    timer_.reset();
    services_.manager.open(session_.uuid(), session_.engine()->state_protocol(), {}, {},
                           [weak = std::weak_ptr(self_)](Result<ManagedVtpm> answer) {
                               if (const auto self = weak.lock()) (*self)->renewed(std::move(answer));
                           });
}

void ChannelRenewal::renew_in(std::chrono::milliseconds delay) {
    renewal_ = Renewal::kWaiting;
    if (auto timer = services_.loop.after(delay, [this] { renew(); })) timer_ = std::move(*timer);
}

// For as long as it takes. Without a manager its return is waited for.
void ChannelRenewal::renew_later(const Error &error) {
    renewal_ = Renewal::kNone;
    if (!services_.manager.connected()) return;
    const auto pause = pause_.next();
    renew_in(hurries_ ? kRetry : passes(error.code) ? pause : services_.refused_retry);
}

void ChannelRenewal::renewed(Result<ManagedVtpm> answer) {
    if (session_.state() != EngineState::kRunning) return;
    if (answer) {
        timer_.reset();
        renewal_ = Renewal::kTaking;
        return session_.engine()->replace_state_channel(std::move(answer->state_channel));
    }
    if (renewal_ != Renewal::kAsked) return;  // of a former question
    // By its own channel, or the manager has not yet seen that the engine has closed that.
    const bool in_use = answer.error().code == ErrorCode::kInUse;
    if (in_use && stores_) return stores_again();
    if (!in_use) tell_(tl::make_unexpected(answer.error()));
    renew_later(answer.error());
}

void ChannelRenewal::stores_again() {
    renewal_ = Renewal::kNone;
    timer_.reset();
    pause_.reset();
    tell_({});
}

}  // namespace vtpm
