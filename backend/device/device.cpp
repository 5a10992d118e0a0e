// SPDX-License-Identifier: Apache-2.0
#include "backend/device/device.hpp"

#include <algorithm>
#include <utility>

#include "backend/device/admission.hpp"
#include "base/log.hpp"
#include "shared-protocol/time_limits.hpp"

namespace vtpm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kRetry{250};
// What passes, and passes late, is tried again after longer and longer pauses, for as long as it takes.
constexpr std::chrono::milliseconds kLongestRetry{5000};
// Of comparisons with xenstore. A driver that is loaded causes some ten.
constexpr int kReconcileBurst = 50;
// Of lines in the journal that a guest can cause as often as it likes.
constexpr int kLogBurst = 20;
constexpr std::chrono::minutes kLogInterval{1};
// Of new state channels. An engine that was taken over could lose each at once.
constexpr int kRenewBurst = 20;
constexpr std::chrono::seconds kRenewInterval{1};

// In the backend's directory, which a guest cannot write: a TPM was ready for this device. A daemon that finds it
// without an engine knows that the PCRs are lost.
constexpr const char *kPoweredOn = "powered-on";
// The same: this device came with a domain that was restored, which only a look before it first runs can tell.
constexpr const char *kRestored = "restored";
// The same: this device came with a domain that was about to run what was measured. One that is attached later shows no
// launch: whoever runs by then may be somebody else.
constexpr const char *kLaunched = "launched";

XenbusState to_state(const std::optional<std::uint32_t> &number) {
    if (!number || *number > static_cast<std::uint32_t>(XenbusState::kReconfigured)) return XenbusState::kUnknown;
    return static_cast<XenbusState>(*number);
}

// A manager that is restarted; the former engine of the same vTPM, which has not ended yet; memory and the like.
bool passes(ErrorCode code) {
    return code == ErrorCode::kUnavailable || code == ErrorCode::kInUse || code == ErrorCode::kShortage;
}

}  // namespace

Device::Device(DeviceId id, DeviceServices &services)
    : id_(id),
      services_(services),
      own_path_(backend_path(services.own_domain, id)),
      guest_path_(frontend_path(id)),
      first_seen_(Clock::now()),
      offered_(first_seen_),
      pause_(kRetry),
      renew_pause_(kRetry),
      may_reconcile_(kReconcileBurst, services.reconcile_interval),
      may_be_logged_(kLogBurst, kLogInterval),
      may_renew_(kRenewBurst, kRenewInterval),
      self_(std::make_shared<Device *>(this)) {
    if (const auto text = services_.xenstore.read(own_path_ + "/uuid")) uuid_ = Uuid::parse(*text);
    watch_guest();
    const XenbusView view = look();
    answered_ = asked_ = view.own > XenbusState::kInitialising;
    if (services_.xenstore.read(own_path_ + "/" + kRestored)) beginning_ = Beginning::kResume;
    launched_ = services_.xenstore.read(own_path_ + "/" + kLaunched).has_value();
    // The toolstack's order to leave comes with online = 0, in one transaction.
    closing_is_ours_ = view.own == XenbusState::kClosing && view.online;
    if (uuid_) engine_ = services_.engines.adopt(id_, *uuid_, *this);
    if (engine_) {
        powered_on_ = true;  // unless it says otherwise
        engine_state_ = EngineState::kAdopting;
    } else if (services_.xenstore.read(own_path_ + "/" + kPoweredOn)) {
        fail_for_good("its engine ended with a former xen-vtpmd; the PCRs are lost until the guest is power cycled");
    }
}

// Fires at once.
void Device::watch_guest() {
    if (const auto watched = services_.xenstore.watch(guest_path_ + "/state", to_string(id_)); !watched)
        log::warning("device {}: {}", to_string(id_), watched.error().text);
}

Device::~Device() { services_.xenstore.unwatch(guest_path_ + "/state", to_string(id_)); }

XenbusView Device::look() const {
    XenbusView view;
    view.present = services_.xenstore.read(own_path_ + "/frontend-id").has_value();
    view.own = to_state(services_.xenstore.read_number(own_path_ + "/state"));
    view.online = services_.xenstore.read_number(own_path_ + "/online") == 1u;
    view.frontend = to_state(services_.xenstore.read_number(guest_path_ + "/state"));
    return view;
}

void Device::reconcile() {
    if (rests_) return;
    if (may_reconcile_.take()) return compare();
    rest();
}

// A guest that writes without end makes us write, and hear of that too. Without a watch xenstored tells us nothing of
// it: the guest has its flood to itself.
void Device::rest() {
    const auto go_on = [this] {
        rests_ = false;
        watch_guest();
        reconcile();
    };
    auto timer = services_.loop.after(services_.reconcile_interval, go_on);
    if (!timer) return compare();
    rest_ = std::move(*timer);
    rests_ = true;
    services_.xenstore.unwatch(guest_path_ + "/state", to_string(id_));
}

void Device::compare() {
    const XenbusView view = look();
    gone_ = gone_ || !view.present || is_replaced(view);
    if (ring_state_ == RingState::kRefused && (!wants_ring(view.frontend) || ring_numbers() != refused_))
        ring_state_ = RingState::kNone;
    const Progress now = progress(view);
    const Step step = next_step(view, now);
    if (now.ring_is_current) frontend_was_connected_ = view.frontend == XenbusState::kConnected;
    take(step, view);
}

Progress Device::progress(const XenbusView &view) const {
    return {.gone = gone_,
            .asked = asked_,
            .failed = failed_,
            .closing_is_ours = closing_is_ours_,
            .engine = engine_state_,
            .ring = ring_state_,
            .ring_is_current = is_ring_current(view)};
}

void Device::take(Step step, const XenbusView &view) {
    switch (step) {
        case Step::kWait:
            return;
        case Step::kEnd:
            return end();
        case Step::kLeave:
            return leave(view);
        case Step::kPrepare:
            return prepare();
        case Step::kOpen:
            return open_vtpm();
        case Step::kAttachRing:
            return attach_ring();
        case Step::kDetachRing:
            return detach_ring();
        case Step::kSayInitWait:
            return set_state(view, XenbusState::kInitWait);
        case Step::kSayConnected:
            return say_connected(view);
        case Step::kSayClosing:
            return set_state(view, XenbusState::kClosing);
        case Step::kSayClosed:
            return set_state(view, XenbusState::kClosed);
    }
}

void Device::end() {
    stop_engine();
    if (finished()) services_.finished();
}

// A toolstack may remove a device and attach another one before we look. It writes state 1, which we never do.
bool Device::is_replaced(const XenbusView &view) const {
    if (view.own != XenbusState::kInitialising) return false;
    const auto text = services_.xenstore.read(own_path_ + "/uuid");
    return answered_ || (text ? Uuid::parse(*text) : std::nullopt) != uuid_;
}

// ---- attach ----

void Device::prepare() {
    const auto facts = services_.domains.ask(id_.domain);
    const auto admitted = ask_admission(facts);
    if (!admitted) {
        const ErrorCode code = admitted.error().code;
        const bool waits = passes(code) && code != ErrorCode::kInUse && Clock::now() - first_seen_ < limits::kAttach;
        return waits ? reconcile_in(retry_, kRetry) : refuse(admitted.error().text);
    }
    beginning_ = *admitted;
    const Bytes *const launch = recorded_launch(*facts);
    launched_ = launch != nullptr;
    asked_ = true;
    services_.manager.prepare(*uuid_, beginning_, launch != nullptr ? ByteView(*launch) : ByteView(),
                              [weak = std::weak_ptr(self_)](Result<ManagedVtpm> answer) {
                                  if (const auto self = weak.lock()) (*self)->prepared(answer);
                              });
}

// Null: there is none, or the domain ran already.
const Bytes *Device::recorded_launch(const DomainFacts &facts) const {
    return facts.has_run ? nullptr : services_.launches.find(id_.domain, facts.incarnation.domain);
}

bool Device::note_admission() {
    return note(kRestored, beginning_ == Beginning::kResume) && note(kLaunched, launched_);
}

// A former daemon that noted it, and was killed before it offered the device, may have met another guest here.
bool Device::note(const char *key, bool holds) {
    if (holds) return services_.xenstore.update(own_path_, key, "1").has_value();
    const std::string path = own_path_ + "/" + key;
    return !services_.xenstore.read(path) || services_.xenstore.remove(path).has_value();
}

Result<Beginning> Device::ask_admission(const Result<DomainFacts> &facts) const {
    if (!uuid_) return fail(ErrorCode::kInvalid, "its uuid is missing or malformed");
    const auto other = services_.runs_elsewhere(*uuid_, id_);
    return admit(id_.domain, facts, other ? std::optional(services_.domains.ask(other->domain)) : std::nullopt);
}

void Device::prepared(const Result<ManagedVtpm> &answer) {
    const XenbusView view = look();
    if (gone_ || view.own != XenbusState::kInitialising || is_replaced(view)) return reconcile();  // meanwhile
    if (answer) {
        offered_ = Clock::now();
        if (!note_admission()) return refuse("xenstore does not take what its guest is");
        (void)services_.xenstore.update(own_path_, TPMIF_KEY_PROTOCOL_V2, "1");
        set_state(view, XenbusState::kInitWait);
        return reconcile();
    }
    const bool may_change = passes(answer.error().code) && answer.error().code != ErrorCode::kInUse;
    if (!may_change || Clock::now() - first_seen_ > limits::kAttach) return refuse(answer.error().text);
    asked_ = false;
    reconcile_in(retry_, kRetry);
}

// libxl fails at once when the state node vanishes, and only after 10 s on anything else.
void Device::refuse(const std::string &why) {
    answered_ = true;
    reason_ = why;
    log::error("device {} (vTPM {}) refused: {}", to_string(id_), uuid_ ? uuid_->to_string() : "?", why);
    (void)services_.xenstore.remove(own_path_ + "/state");
}

// ---- the guest ----

// The same ring, or has the frontend started over without our seeing it close?
bool Device::is_ring_current(const XenbusView &view) const {
    if (ring_state_ != RingState::kAttached || !wants_ring(view.frontend)) return false;
    const bool started_over = view.frontend == XenbusState::kInitialised && frontend_was_connected_;
    return !started_over && ring_numbers() == attached_;
}

void Device::say_connected(const XenbusView &view) {
    const auto held = std::chrono::floor<std::chrono::milliseconds>(Clock::now() - offered_);
    if (held < services_.hold_init_wait) return reconcile_in(hold_, services_.hold_init_wait - held);
    set_state(view, XenbusState::kConnected);
}

std::optional<RingNumbers> Device::ring_numbers() const {
    const auto ring_ref = services_.xenstore.read_number(guest_path_ + "/" TPMIF_KEY_RING_REF);
    const auto event_channel = services_.xenstore.read_number(guest_path_ + "/" TPMIF_KEY_EVENT_CHANNEL);
    if (!ring_ref || !event_channel) return std::nullopt;
    return RingNumbers{*ring_ref, *event_channel};
}

void Device::attach_ring() {
    if (await_pause()) return;
    const auto numbers = ring_numbers();
    if (!numbers || services_.xenstore.read_number(guest_path_ + "/" TPMIF_KEY_PROTOCOL_V2) != 1u)
        return refuse_ring(
            numbers, {ErrorCode::kInvalid, "ring-ref, event-channel or feature-protocol-v2 is missing or malformed"});
    auto ring = services_.rings.open(id_.domain, *numbers);
    if (!ring) return refuse_ring(numbers, ring.error());
    ring->order.ring_ref = numbers->ring_ref;
    ring->order.event_channel = numbers->event_channel;
    attached_ = numbers;
    frontend_was_connected_ = false;
    ring_state_ = RingState::kAttaching;
    engine_->attach_ring(*ring);
}

void Device::ring_attached(const Result<> &attached) {
    if (ring_state_ != RingState::kAttaching) return;
    ring_state_ = attached ? RingState::kAttached : RingState::kNone;
    if (!attached) {
        return refuse_ring(std::exchange(attached_, std::nullopt), attached.error());
    }
    reason_.clear();
    pause_ = kRetry;
    if (may_be_logged_.take()) log::info("device {}: vTPM {} connected", to_string(id_), uuid_->to_string());
    reconcile();
}

// A frontend that ended while we looked, or a hostile one: its TPM goes on, for a frontend that starts over.
void Device::refuse_ring(std::optional<RingNumbers> numbers, const Error &error) {
    if (passes(error.code)) return try_later(error.text);
    ring_state_ = RingState::kRefused;
    refused_ = numbers;
    reason_ = "the frontend's ring is refused: " + error.text;
    if (may_be_logged_.take()) log::warning("device {}: {}", to_string(id_), reason_);
    reconcile_in(retry_, std::chrono::milliseconds(0));
}

void Device::detach_ring() {
    ring_state_ = RingState::kDetaching;
    attached_.reset();
    engine_->detach_ring();
}

void Device::ring_detached() {
    if (ring_state_ != RingState::kDetaching) return;
    ring_state_ = RingState::kNone;
    reconcile();
}

// ---- the engine ----

void Device::open_vtpm() {
    if (await_pause()) return;
    if (!uuid_) return fail_for_good("its uuid is missing or malformed");
    if (powered_on_) return fail_for_good("its TPM was powered off; power cycle the guest");
    // In a migration it goes only when this guest runs already.
    if (beginning_ == Beginning::kResume) {
        const auto waits = services_.is_to_be_suspended(*uuid_, id_);
        if (!waits) return try_later_or_fail(waits.error());
        if (*waits) return try_later("the domain that its guest comes from has not left yet");
    }
    // A manager that was just restarted does not know.
    if (services_.runs_elsewhere(*uuid_, id_)) return try_later(kRunsElsewhere);
    const auto launch = launch_record();
    if (!launch) return try_later_or_fail(launch.error());
    engine_state_ = EngineState::kOpening;
    services_.manager.open(*uuid_, protocol_version(Channel::kState), *launch,
                           [weak = std::weak_ptr(self_)](Result<ManagedVtpm> answer) {
                               if (const auto self = weak.lock()) (*self)->opened(std::move(answer));
                           });
}

// Empty: nobody measured it. Until the next record.
Result<ByteView> Device::launch_record() const {
    if (!launched_) return ByteView();
    VTPM_ASSIGN(const DomainFacts facts, services_.domains.ask(id_.domain));
    const Bytes *log = services_.launches.find(id_.domain, facts.incarnation.domain);
    if (log != nullptr) return ByteView(*log);
    log::error("device {}: the record of its guest's launch is lost: its TPM says that nobody measured it",
               to_string(id_));
    return ByteView();
}

void Device::opened(Result<ManagedVtpm> answer) {
    engine_state_ = EngineState::kNone;
    // Meanwhile; it has been told that nothing runs.
    const bool leaves = is_told_to_leave(look(), closing_is_ours_);
    const bool is_to_be_suspended = has_time_before_save() && is_suspended_unused().value_or(true);
    if (gone_ || (leaves && !is_to_be_suspended)) return reconcile();
    if (!answer) return try_later_or_fail(answer.error());
    const auto facts = services_.domains.ask(id_.domain);
    if (!facts) return try_later_or_fail(facts.error());
    auto engine = services_.engines.start_engine(id_, *uuid_, answer->version, std::move(answer->state_channel), *this,
                                                 beginning_, facts->incarnation);
    if (!engine) return try_later_or_fail(engine.error());
    engine_ = std::move(*engine);
    engine_state_ = EngineState::kStarting;
    reconcile();
}

void Device::try_later_or_fail(const Error &error) {
    if (!passes(error.code)) return fail_for_good(error.text);
    try_later(error.text);
}

void Device::try_later(const std::string &why) {
    if (reason_ != why && may_be_logged_.take()) log::warning("device {}: waits: {}", to_string(id_), why);
    reason_ = why;
    // Whoever waits for it to leave does so for some seconds only.
    const bool leaves = gone_ || leaves_since_ != Clock::time_point{};
    not_before_ = Clock::now() + (leaves ? kRetry : pause_);
    (void)await_pause();
    pause_ = std::min(2 * pause_, kLongestRetry);
}

// A guest that writes makes us look, but not try.
bool Device::await_pause() {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(not_before_ - Clock::now());
    if (left.count() <= 0) return false;
    reconcile_in(retry_, left);
    return true;
}

void Device::try_now() {
    pause_ = kRetry;
    not_before_ = {};
    reconcile();
}

void Device::engine_ready(const Result<> &started) {
    if (engine_state_ != EngineState::kStarting && engine_state_ != EngineState::kAdopting) return;
    // No guest has had this TPM. (What was to be resumed may be gone: then the next engine says so.) Of one that was
    // left by a former daemon, its own word is no evidence.
    const bool unused =
        engine_state_ == EngineState::kStarting || !services_.xenstore.read(own_path_ + "/" + kPoweredOn);
    if (!started && unused && passes(started.error().code)) {
        reason_ = started.error().text;
        powered_on_ = false;
        return stop_engine();
    }
    if (!started) return fail_for_good(started.error().text);
    if (engine_state_ == EngineState::kAdopting) return;  // engine_status() follows
    if (!note_power_on()) return fail_for_good("xenstore does not take that its TPM was powered on");
    pause_ = kRetry;
    engine_state_ = EngineState::kRunning;
    if (renewal_ != Renewal::kNone) renew_state_channel();  // the manager was restarted meanwhile
    reconcile();
}

// A daemon that knew nothing of it could give a guest zero PCRs.
bool Device::note_power_on() {
    powered_on_ = true;
    const auto noted = services_.xenstore.update(own_path_, kPoweredOn, "1");
    return noted && *noted;
}

void Device::engine_status(const EngineStatus &status) {
    if (engine_state_ != EngineState::kAdopting) return;
    // The former daemon may not have.
    if (!services_.xenstore.read(own_path_ + "/" + kPoweredOn) && !note_power_on())
        log::error("device {}: xenstore does not take that its TPM was powered on", to_string(id_));
    engine_state_ = EngineState::kRunning;
    stores_ = status.state_channel == ErrorCode::kNone;
    if (status.event_channel != 0) {
        attached_ = RingNumbers{status.ring_ref, status.event_channel};
        ring_state_ = RingState::kAttached;
        frontend_was_connected_ = look().own == XenbusState::kConnected;
    }
    log::info("device {}: vTPM {} goes on", to_string(id_), uuid_->to_string());
    renew_state_channel();  // the manager may have been restarted meanwhile
    reconcile();
}

void Device::stop_engine() {
    if (engine_ && engine_state_ != EngineState::kStopping) return stop_engine(or_lost(ask_suspended()));
    ring_state_ = RingState::kNone;
    attached_.reset();
}

void Device::stop_engine(const std::optional<Incarnation> &incarnation) {
    ring_state_ = RingState::kNone;
    attached_.reset();
    if (!engine_ || engine_state_ == EngineState::kStopping) return;
    engine_state_ = EngineState::kStopping;
    saves_ = incarnation.has_value();
    if (saves_)
        engine_->suspend(*incarnation);
    else
        engine_->stop();
    if (auto timer = services_.loop.after(saves_ ? limits::kSave : services_.power_off_limit, [this] {
            log::warning("device {}: the engine does not stop and is killed", to_string(id_));
            if (engine_) engine_->kill();
        }))
        kill_ = std::move(*timer);
}

Result<std::optional<Incarnation>> Device::ask_suspended() const {
    const auto facts = services_.domains.ask(id_.domain);
    if (facts) return facts->suspended ? std::optional(facts->incarnation) : std::nullopt;
    if (facts.error().code == ErrorCode::kNotFound) return std::nullopt;
    return tl::make_unexpected(facts.error());
}

std::optional<Incarnation> Device::or_lost(const Result<std::optional<Incarnation>> &asked) const {
    if (asked) return *asked;
    log::error("device {}: if its guest was saved, its PCRs are lost: {}", to_string(id_), asked.error().text);
    return std::nullopt;
}

void Device::engine_exited(const std::string &how, ExitKind end) {
    const bool expected = engine_state_ == EngineState::kStopping;
    const bool orderly = end == ExitKind::kOrderly;
    engine_.reset();
    kill_.reset();
    renew_.reset();
    renewal_ = Renewal::kNone;
    if (uuid_) services_.engine_ended(*uuid_, id_);
    engine_state_ = EngineState::kNone;
    ring_state_ = RingState::kNone;
    attached_.reset();
    if (end == ExitKind::kNotStarted && !powered_on_) return try_later(how);
    if (!expected) {
        fail_for_good(reason_.empty() || orderly ? how : reason_ + "; " + how);
        return;
    }
    if (!orderly && saves_)
        log::error("device {}: {}; its guest, restored, has no TPM until it is power cycled", to_string(id_), how);
    else if (!orderly)
        log::warning("device {}: {}", to_string(id_), how);
    if (!orderly && !powered_on_) return try_later(reason_);
    reconcile();
}

// The answer to a new channel, or the word that the present one is lost: then a command may wait for the next.
void Device::state_channel_changed(const Result<> &usable) {
    stores_ = usable.has_value();
    if (usable) {
        stores_again();
        if (may_be_logged_.take()) log::info("device {}: stores again", to_string(id_));
        return;
    }
    tell_cannot_store(usable.error());
    if (renewal_ == Renewal::kTaking) return renew_state_channel_later(usable.error());
    if (renewal_ != Renewal::kAsked) renew_state_channel();
}

void Device::manager_is_back() {
    if (engine_state_ == EngineState::kStarting) renewal_ = Renewal::kWaiting;  // see engine_ready()
    renew_state_channel();
    try_now();
}

void Device::renew_state_channel() {
    if (engine_state_ != EngineState::kRunning) return;
    if (!may_renew_.take()) return renew_state_channel_in(kRetry);
    renewal_ = Renewal::kAsked;
    renew_.reset();
    services_.manager.open(*uuid_, engine_->state_protocol(), {},
                           [weak = std::weak_ptr(self_)](Result<ManagedVtpm> answer) {
                               if (const auto self = weak.lock()) (*self)->channel_renewed(std::move(answer));
                           });
}

void Device::renew_state_channel_in(std::chrono::milliseconds delay) {
    renewal_ = Renewal::kWaiting;
    if (auto timer = services_.loop.after(delay, [this] { renew_state_channel(); })) renew_ = std::move(*timer);
}

// For as long as it takes. Without a manager its return is waited for.
void Device::renew_state_channel_later(const Error &error) {
    renewal_ = Renewal::kNone;
    if (!services_.manager.connected()) return;
    // Whoever waits for it to leave does so for some seconds only.
    const bool leaves = leaves_since_ != Clock::time_point{};
    const auto pause = passes(error.code) ? renew_pause_ : services_.refused_retry;
    renew_state_channel_in(leaves ? kRetry : pause);
    renew_pause_ = std::min(2 * renew_pause_, kLongestRetry);
}

void Device::channel_renewed(Result<ManagedVtpm> answer) {
    if (engine_state_ != EngineState::kRunning) return;
    if (answer) {
        renew_.reset();
        renewal_ = Renewal::kTaking;
        return engine_->replace_state_channel(std::move(answer->state_channel));
    }
    if (renewal_ != Renewal::kAsked) return;  // of a former question
    // By its own channel, or the manager has not yet seen that the engine has closed that.
    const bool in_use = answer.error().code == ErrorCode::kInUse;
    if (in_use && stores_) return stores_again();
    if (!in_use) tell_cannot_store(answer.error());
    renew_state_channel_later(answer.error());
}

void Device::tell_cannot_store(const Error &error) {
    const std::string why = "cannot store: " + error.text;
    if (reason_ != why && may_be_logged_.take()) log::error("device {}: {}", to_string(id_), why);
    reason_ = why;
}

void Device::stores_again() {
    renewal_ = Renewal::kNone;
    renew_.reset();
    renew_pause_ = kRetry;
    reason_.clear();
}

void Device::fail_for_good(const std::string &why) {
    failed_ = true;
    reason_ = why;
    log::error("device {} (vTPM {}): {}", to_string(id_), uuid_ ? uuid_->to_string() : "?", why);
    stop_engine();
    // Not reconcile(): this may be called from the constructor, or in the middle of a step.
    reconcile_in(retry_, std::chrono::milliseconds(0));
}

// ---- detach ----

// Needs nothing of the guest, which may be dying.
void Device::leave(const XenbusView &view) {
    if (leaves_since_ == Clock::time_point{}) {
        leaves_since_ = Clock::now();
        not_before_ = {};
        if (renewal_ == Renewal::kWaiting) renew_state_channel();
    }
    if (engine_state_ == EngineState::kStopping) return;  // its end follows, and Xen has been asked
    const auto asked = ask_suspended();
    const bool has_time = has_time_before_save();
    const auto incarnation = asked || !has_time ? or_lost(asked) : std::nullopt;
    switch (next_leaving_step({.has_time = has_time,
                               .xen_answers = asked.has_value(),
                               .suspended = incarnation.has_value(),
                               .unused = is_unused(),
                               .can_store = can_store(),
                               .engine = engine_state_})) {
        case LeavingStep::kWait:
            return reconcile_in(retry_, kRetry);
        case LeavingStep::kOpen:
            return open_vtpm();
        case LeavingStep::kSuspend:
        case LeavingStep::kPowerOff:
            return stop_engine(incarnation);
        case LeavingStep::kSayClosed:
            return set_state(view, XenbusState::kClosed);
    }
}

bool Device::has_time_before_save() const { return Clock::now() - leaves_since_ < limits::kBeforeSave; }

bool Device::is_unused() const { return answered_ && !powered_on_ && !failed_ && !gone_; }

Result<bool> Device::is_suspended_unused() const {
    if (!is_unused()) return false;
    VTPM_ASSIGN(const auto incarnation, ask_suspended());
    return incarnation.has_value();
}

// Not while the manager is being restarted.
bool Device::can_store() const { return services_.manager.connected() && stores_ && renewal_ == Renewal::kNone; }

// ---- little helpers ----

void Device::set_state(const XenbusView &view, XenbusState state) {
    if (view.own == state) return;
    closing_is_ours_ = state == XenbusState::kClosing;
    const auto written =
        services_.xenstore.update(own_path_, TPMIF_KEY_STATE, std::to_string(static_cast<unsigned>(state)));
    if (!written) log::error("device {}: {}", to_string(id_), written.error().text);
    if (written && *written) answered_ = true;
}

void Device::reconcile_in(EventSource &timer, std::chrono::milliseconds delay) {
    if (auto source = services_.loop.after(delay, [this] { reconcile(); })) timer = std::move(*source);
}

std::string Device::status() const {
    if (failed_) return "failed";
    switch (engine_state_) {
        case EngineState::kNone:
            return asked_ ? "waiting for the guest" : "attaching";
        case EngineState::kOpening:
        case EngineState::kStarting:
            return "starting";
        case EngineState::kAdopting:
            return "being taken over";
        case EngineState::kStopping:
            return "stopping";
        case EngineState::kRunning:
            break;
    }
    return ring_state_ == RingState::kAttached ? "connected" : "running, not connected";
}

}  // namespace vtpm
