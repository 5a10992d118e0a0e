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

#include "backend/device/engine_host.hpp"
#include "backend/device/next_step.hpp"
#include "backend/launch_records.hpp"
#include "backend/manager_client.hpp"
#include "backend/xen/domains.hpp"
#include "backend/xen/ring_opener.hpp"
#include "backend/xen/xenstore.hpp"
#include "base/allowance.hpp"
#include "shared-protocol/time_limits.hpp"
#include "shared-protocol/xenstore_names.hpp"

namespace vtpm {

// What devices share; outlives them.
struct DeviceServices {
    EventLoop &loop;
    Xenstore &xenstore;
    ManagerClient &manager;
    EngineHost &engines;
    RingOpener &rings;
    Domains &domains;
    LaunchRecords &launches;
    std::uint32_t own_domain;
    // libxl waits for state 2 and wants to read exactly that: on a hot attach, state 4 follows no sooner than this.
    std::chrono::milliseconds hold_init_wait{1500};
    // A device whose guest writes without end is looked at this often.
    std::chrono::milliseconds reconcile_interval{200};
    // An engine that is told to power its TPM off, and does not end, is killed after this.
    std::chrono::milliseconds power_off_limit{limits::kPowerOff};
    // A state channel that only an administrator can help (a group that is refused, then opened) is asked for this
    // often.
    std::chrono::milliseconds refused_retry{limits::kRefusedRetry};
    // The device other than this one that has a living engine for this vTPM.
    std::function<std::optional<DeviceId>(const Uuid &, DeviceId)> runs_elsewhere{};
    // Whether another one is_suspended_unused() with this vTPM.
    std::function<Result<bool>(const Uuid &, DeviceId)> is_to_be_suspended{};
    // A device has gone, and its engine: another one may wait in its place.
    std::function<void()> finished{};
    // An engine has ended: other devices may wait for this vTPM.
    std::function<void(const Uuid &, DeviceId)> engine_ended{};
};

class Device final : private EngineObserver {
public:
    Device(DeviceId id, DeviceServices &services);
    ~Device() override;

    // Now; or, if its guest makes us do so too often, a little later, and then once for all that was asked meanwhile.
    void reconcile();
    // The manager was restarted: the engine needs a new state channel.
    void manager_is_back();
    // What it waited for may have happened.
    void try_now();

    // The toolstack has removed the device, perhaps for another one, and its engine has ended: nothing is left to do.
    [[nodiscard]] bool finished() const { return gone_ && !engine_; }
    [[nodiscard]] bool has_engine() const { return engine_ != nullptr; }
    // Its guest has been suspended, and never asked for its TPM: that is powered on when the device is told to leave.
    // An error: Xen does not say now whether it was.
    [[nodiscard]] Result<bool> is_suspended_unused() const;
    [[nodiscard]] const std::optional<Uuid> &uuid() const { return uuid_; }
    [[nodiscard]] DeviceId id() const { return id_; }
    // For people: "connected", "waiting for the guest", "failed", ... and why.
    [[nodiscard]] std::string status() const;
    [[nodiscard]] const std::string &reason() const { return reason_; }
    [[nodiscard]] std::uint32_t engine_pid() const { return engine_ ? engine_->pid() : 0; }
    [[nodiscard]] std::string engine_version() const { return engine_ ? engine_->version() : std::string(); }

private:
    // Of the engine's state channel: none is due; a timer, or the engine, is waited for; the manager is asked; the
    // engine takes the new one.
    enum class Renewal { kNone, kWaiting, kAsked, kTaking };

    void compare();
    void rest();
    // The steps, as next_step() tells them.
    void take(Step step, const XenbusView &view);
    void end();
    void leave(const XenbusView &view);
    void prepare();
    [[nodiscard]] Result<Beginning> ask_admission(const Result<DomainFacts> &facts) const;
    void say_connected(const XenbusView &view);

    [[nodiscard]] const Bytes *recorded_launch(const DomainFacts &facts) const;
    [[nodiscard]] bool note_admission();
    [[nodiscard]] bool note(const char *key, bool holds);
    void prepared(const Result<ManagedVtpm> &answer);
    void refuse(const std::string &why);
    void open_vtpm();
    [[nodiscard]] Result<ByteView> launch_record() const;
    void try_later_or_fail(const Error &error);
    void try_later(const std::string &why);
    [[nodiscard]] bool await_pause();
    [[nodiscard]] bool note_power_on();
    void opened(Result<ManagedVtpm> answer);
    void attach_ring();
    void refuse_ring(std::optional<RingNumbers> numbers, const Error &error);
    void detach_ring();
    void renew_state_channel();
    void renew_state_channel_in(std::chrono::milliseconds delay);
    void renew_state_channel_later(const Error &error);
    void tell_cannot_store(const Error &error);
    void stores_again();
    void channel_renewed(Result<ManagedVtpm> answer);
    void stop_engine();
    void stop_engine(const std::optional<Incarnation> &suspended);
    // Where its guest was, if that was saved, or has gone to another domain. kNotFound is no error: the domain has
    // gone.
    [[nodiscard]] Result<std::optional<Incarnation>> ask_suspended() const;
    // Where there is no more time to ask again: told in the journal.
    [[nodiscard]] std::optional<Incarnation> or_lost(const Result<std::optional<Incarnation>> &asked) const;
    [[nodiscard]] bool is_unused() const;
    [[nodiscard]] bool can_store() const;
    [[nodiscard]] bool has_time_before_save() const;
    // Until the guest is power cycled, or the device detached.
    void fail_for_good(const std::string &why);

    void engine_ready(const Result<> &started) override;
    void engine_status(const EngineStatus &status) override;
    void ring_attached(const Result<> &attached) override;
    void ring_detached() override;
    void state_channel_changed(const Result<> &usable) override;
    void engine_exited(const std::string &how, ExitKind end) override;

    void watch_guest();
    [[nodiscard]] XenbusView look() const;
    [[nodiscard]] bool is_replaced(const XenbusView &view) const;
    [[nodiscard]] Progress progress(const XenbusView &view) const;
    [[nodiscard]] bool is_ring_current(const XenbusView &view) const;
    [[nodiscard]] std::optional<RingNumbers> ring_numbers() const;
    void set_state(const XenbusView &view, XenbusState state);
    void reconcile_in(EventSource &timer, std::chrono::milliseconds delay);

    DeviceId id_;
    DeviceServices &services_;
    std::string own_path_;
    std::string guest_path_;
    std::optional<Uuid> uuid_;
    std::string reason_;

    Beginning beginning_ = Beginning::kPowerOn;
    bool launched_ = false;  // its domain's launch was recorded, and had not happened yet when the device came
    bool asked_ = false;     // the manager has been asked whether this vTPM may be attached
    bool answered_ = false;  // the toolstack's state 1 has been followed by one of ours, or by its removal
    bool gone_ = false;
    bool failed_ = false;
    bool closing_is_ours_ = false;  // state 5 was written by us; otherwise it is the toolstack's order to leave
    EngineState engine_state_ = EngineState::kNone;
    RingState ring_state_ = RingState::kNone;
    std::unique_ptr<EngineProcess> engine_;
    std::optional<RingNumbers> attached_;
    std::optional<RingNumbers> refused_;   // while ring_state_ says so
    bool frontend_was_connected_ = false;  // since the ring was attached
    bool stores_ = true;                   // the engine has not said otherwise
    Renewal renewal_ = Renewal::kNone;
    bool powered_on_ = false;  // once, or resumed: that is not done twice
    bool saves_ = false;       // and not only stops
    std::chrono::steady_clock::time_point leaves_since_;
    std::chrono::steady_clock::time_point first_seen_;
    std::chrono::steady_clock::time_point offered_;  // when state 2 was written first
    std::chrono::milliseconds pause_;                // before the next try
    std::chrono::milliseconds renew_pause_;          // the same, of a renewal
    std::chrono::steady_clock::time_point not_before_;
    Allowance may_reconcile_;
    Allowance may_be_logged_;
    Allowance may_renew_;
    EventSource rest_;
    bool rests_ = false;
    EventSource hold_;
    EventSource retry_;
    EventSource kill_;
    EventSource renew_;
    std::shared_ptr<Device *> self_;  // answers of the manager may come after the device has gone
};

}  // namespace vtpm
