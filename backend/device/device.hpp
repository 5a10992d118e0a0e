// SPDX-License-Identifier: Apache-2.0
// One vTPM device of one guest: the backend's half of the xenbus state machine, and the engine behind it.
//
// reconcile() compares what xenstore says with what is there and takes the next step; everything that happens later
// (an answer of the manager, an engine's report, a timer) ends in another reconcile(). A guest may write anything into
// its directory at any time: it changes what is wanted, at worst for its own device.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "backend/device/attachment.hpp"
#include "backend/device/channel_renewal.hpp"
#include "backend/device/device_notes.hpp"
#include "backend/device/device_services.hpp"
#include "backend/device/frontend_watch.hpp"
#include "backend/device/next_step.hpp"
#include "backend/device/retry.hpp"
#include "backend/device/ring_link.hpp"
#include "backend/device/tpm_session.hpp"
#include "base/allowance.hpp"

namespace vtpm {

class Device final : private EngineObserver {
public:
    Device(DeviceId id, DeviceServices &services);
    ~Device() override = default;
    Device(const Device &) = delete;
    Device &operator=(const Device &) = delete;

    // Now; or, if its guest makes us do so too often, a little later, and then once for all that was asked meanwhile.
    void reconcile();
    // The manager was restarted: the engine needs a new state channel.
    void manager_is_back();
    // What it waited for may have happened.
    void try_now();

    // The toolstack has removed the device, perhaps for another one, and its engine has ended: nothing is left to do.
    [[nodiscard]] bool finished() const { return gone_ && !has_engine(); }
    [[nodiscard]] bool has_engine() const { return session_.engine() != nullptr; }
    // Its guest has been suspended, and never asked for its TPM: that is powered on when the device is told to leave.
    // An error: Xen does not say now whether it was.
    [[nodiscard]] Result<bool> is_suspended_unused() const;
    [[nodiscard]] const std::optional<Uuid> &uuid() const { return uuid_; }
    [[nodiscard]] DeviceId id() const { return id_; }
    // For people: "connected", "waiting for the guest", "failed", ... and why.
    [[nodiscard]] std::string status() const;
    [[nodiscard]] const std::string &reason() const { return reason_; }
    [[nodiscard]] std::uint32_t engine_pid() const { return has_engine() ? session_.engine()->pid() : 0; }
    [[nodiscard]] std::optional<MeterReading> meter() const {
        return has_engine() ? session_.engine()->meter() : std::nullopt;
    }
    [[nodiscard]] std::string engine_version() const {
        return has_engine() ? session_.engine()->version() : std::string();
    }

private:
    void compare();
    // The steps, as next_step() tells them.
    void take(Step step, const XenbusView &view);
    void end();
    void leave(const XenbusView &view);
    void prepare();
    void say_connected(const XenbusView &view);

    void prepared(const Result<> &allowed);
    void refuse(const std::string &why);
    void open_vtpm();
    void try_later_or_fail(const Error &error);
    void try_later(const std::string &why);
    [[nodiscard]] bool await_pause();
    void opened(Result<ManagedVtpm> answer);
    void attach_ring();
    void ring_refused(const Error &error);
    void detach_ring();
    void tell_stores(const Result<> &stores);
    void stop_engine();
    void stop_engine(const std::optional<Incarnation> &suspended);
    // Where its guest was, if that was saved, or has gone to another domain. kNotFound is no error: the domain has
    // gone.
    [[nodiscard]] Result<std::optional<Incarnation>> ask_suspended() const;
    // Where there is no more time to ask again: told in the journal.
    [[nodiscard]] std::optional<Incarnation> or_lost(const Result<std::optional<Incarnation>> &asked) const;
    [[nodiscard]] bool is_unused() const;
    [[nodiscard]] bool has_time_before_save() const;
    // Until the guest is power cycled, or the device detached.
    void fail_for_good(const std::string &why);

    void engine_ready(const Result<> &started) override;
    void engine_status(const EngineStatus &status) override;
    void ring_attached(const Result<> &answer) override;
    void ring_detached() override;
    void state_channel_changed(const Result<> &usable) override;
    void engine_exited(const std::string &how, ExitKind end) override;

    [[nodiscard]] std::optional<std::string> read_uuid() const;
    [[nodiscard]] XenbusView look() const;
    // For a write that is for this device only.
    [[nodiscard]] Xenstore::Seen seen(const XenbusView &view) const;
    [[nodiscard]] bool is_replaced(const XenbusView &view) const;
    [[nodiscard]] Progress progress(const XenbusView &view) const;
    void set_state(const XenbusView &view, XenbusState state);
    void reconcile_in(EventSource &timer, std::chrono::milliseconds delay);

    DeviceId id_;
    DeviceServices &services_;
    std::string own_path_;
    std::string guest_path_;
    DeviceNotes notes_;
    std::optional<std::string> uuid_text_;  // as xenstore has it
    std::optional<Uuid> uuid_;
    Attachment attachment_;
    TpmSession session_;
    RingLink ring_;
    ChannelRenewal channel_;
    FrontendWatch frontend_;
    std::string reason_;

    bool asked_ = false;     // the manager has been asked whether this vTPM may be attached
    bool answered_ = false;  // the toolstack's state 1 has been followed by one of ours, or by its removal
    bool gone_ = false;
    bool failed_ = false;
    bool closing_is_ours_ = false;  // state 5 was written by us; otherwise it is the toolstack's order to leave
    bool powered_on_ = false;       // once, or resumed: that is not done twice
    std::chrono::steady_clock::time_point leaves_since_;
    std::chrono::steady_clock::time_point offered_;  // when state 2 was written first
    Backoff pause_;
    std::chrono::steady_clock::time_point not_before_;
    Allowance may_be_logged_;
    EventSource hold_;
    EventSource retry_;
    std::shared_ptr<Device *> self_;  // answers of the manager may come after the device has gone
};

}  // namespace vtpm
