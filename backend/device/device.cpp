// SPDX-License-Identifier: Apache-2.0
#include "backend/device/device.hpp"

#include <algorithm>
#include <utility>

#include "backend/device/admission.hpp"
#include "backend/device/retry.hpp"
#include "base/log.hpp"
#include "shared-protocol/time_limits.hpp"

namespace vtpm {
namespace {

using Clock = std::chrono::steady_clock;

// Of lines in the journal that a guest can cause as often as it likes.
constexpr int kLogBurst = 20;
constexpr std::chrono::minutes kLogInterval{1};

XenbusState to_state(const std::optional<std::uint32_t> &number) {
    if (!number || *number > static_cast<std::uint32_t>(XenbusState::kReconfigured)) return XenbusState::kUnknown;
    return static_cast<XenbusState>(*number);
}

// As the toolstack wrote it, which a guest cannot; while a guest comes from another host libxl appends a word to it.
std::string guest_name(Xenstore &xenstore, std::uint32_t domain) {
    constexpr std::string_view kIncoming = "--incoming";
    std::string name = xenstore.read(fmt::format("/local/domain/{}/name", domain)).value_or("");
    if (name.ends_with(kIncoming)) name.resize(name.size() - kIncoming.size());
    name.resize(std::min(name.size(), kMaxGuestName));
    return name;
}

}  // namespace

Device::Device(DeviceId id, DeviceServices &services)
    : id_(id),
      services_(services),
      own_path_(backend_path(services.own_domain, id)),
      guest_path_(frontend_path(id)),
      notes_(services.xenstore, own_path_),
      uuid_text_(read_uuid()),
      uuid_(uuid_text_ ? Uuid::parse(*uuid_text_) : std::nullopt),
      attachment_(services, id, notes_),
      session_(services, id, *this),
      ring_(services, id),
      channel_(services, session_, [this](const Result<> &stores) { tell_stores(stores); }),
      frontend_(services, id, [this] { reconcile(); }),
      offered_(Clock::now()),
      may_be_logged_(kLogBurst, kLogInterval),
      self_(std::make_shared<Device *>(this)) {
    const XenbusView view = look();
    answered_ = asked_ = view.own > XenbusState::kInitialising;
    // The toolstack's order to leave comes with online = 0, in one transaction.
    closing_is_ours_ = view.own == XenbusState::kClosing && view.online;
    if (uuid_ && session_.adopt(*uuid_))
        powered_on_ = true;  // unless it says otherwise
    else if (notes_.has(DeviceNotes::kPoweredOn))
        fail_for_good("its engine ended with a former xen-vtpmd; the PCRs are lost until the guest is power cycled");
}

std::optional<std::string> Device::read_uuid() const { return services_.xenstore.read(own_path_ + "/uuid"); }

XenbusView Device::look() const {
    XenbusView view;
    view.present = services_.xenstore.read(own_path_ + "/frontend-id").has_value();
    view.own = to_state(services_.xenstore.read_number(own_path_ + "/state"));
    view.online = services_.xenstore.read_number(own_path_ + "/online") == 1u;
    view.frontend = to_state(services_.xenstore.read_number(guest_path_ + "/state"));
    return view;
}

Xenstore::Seen Device::seen(const XenbusView &view) const {
    Xenstore::Seen seen{{TPMIF_KEY_STATE, std::to_string(static_cast<unsigned>(view.own))}};
    // In its own place: a device that came there has the state that only a toolstack writes.
    if (view.own == XenbusState::kInitialising && uuid_text_) seen.emplace_back("uuid", *uuid_text_);
    return seen;
}

void Device::reconcile() {
    if (frontend_.may_look()) compare();
}

void Device::compare() {
    const XenbusView view = look();
    gone_ = gone_ || !view.present || is_replaced(view);
    ring_.forget_refusal(view.frontend);
    const Progress now = progress(view);
    const Step step = next_step(view, now);
    if (now.ring_is_current) ring_.saw(view.frontend);
    take(step, view);
}

Progress Device::progress(const XenbusView &view) const {
    return {.gone = gone_,
            .asked = asked_,
            .failed = failed_,
            .closing_is_ours = closing_is_ours_,
            .engine = session_.state(),
            .ring = ring_.state(),
            .ring_is_current = ring_.is_current(view.frontend)};
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
    return answered_ || read_uuid() != uuid_text_;
}

// ---- attach ----

void Device::prepare() {
    const auto asked = attachment_.ask(uuid_, [this](const Result<> &allowed) { prepared(allowed); });
    if (asked) {
        asked_ = true;
        return;
    }
    if (!attachment_.may_change(asked.error())) return refuse(asked.error().text);
    reconcile_in(retry_, kRetry);
}

void Device::prepared(const Result<> &allowed) {
    const XenbusView view = look();
    if (gone_ || view.own != XenbusState::kInitialising || is_replaced(view)) return reconcile();  // meanwhile
    if (allowed) {
        offered_ = Clock::now();
        if (!attachment_.note(seen(view))) return refuse("xenstore does not take what its guest is");
        (void)services_.xenstore.update(own_path_, seen(view), TPMIF_KEY_PROTOCOL_V2, "1");
        set_state(view, XenbusState::kInitWait);
        return reconcile();
    }
    if (!attachment_.may_change(allowed.error())) return refuse(allowed.error().text);
    asked_ = false;
    reconcile_in(retry_, kRetry);
}

// libxl fails at once when the state node vanishes, and only after 10 s on anything else.
void Device::refuse(const std::string &why) {
    const bool is_here = !is_replaced(look());
    answered_ = true;
    reason_ = why;
    log::error("device {} (vTPM {}) refused: {}", to_string(id_), uuid_ ? uuid_->to_string() : "?", why);
    if (is_here) (void)services_.xenstore.remove(own_path_ + "/state");
}

// ---- the guest ----

void Device::say_connected(const XenbusView &view) {
    const auto held = std::chrono::floor<std::chrono::milliseconds>(Clock::now() - offered_);
    if (held < services_.hold_init_wait) return reconcile_in(hold_, services_.hold_init_wait - held);
    set_state(view, XenbusState::kConnected);
}

void Device::attach_ring() {
    if (await_pause()) return;
    if (const auto attaching = ring_.attach(*session_.engine()); !attaching) ring_refused(attaching.error());
}

void Device::ring_attached(const Result<> &answer) {
    if (ring_.state() != RingState::kAttaching) return;
    if (const auto attached = ring_.attached(answer); !attached) return ring_refused(attached.error());
    reason_.clear();
    pause_.reset();
    if (may_be_logged_.take()) log::info("device {}: vTPM {} connected", to_string(id_), uuid_->to_string());
    reconcile();
}

// A frontend that ended while we looked, or a hostile one: its TPM goes on, for a frontend that starts over.
void Device::ring_refused(const Error &error) {
    if (passes(error.code)) return try_later(error.text);
    reason_ = "the frontend's ring is refused: " + error.text;
    if (may_be_logged_.take()) log::warning("device {}: {}", to_string(id_), reason_);
    reconcile_in(retry_, std::chrono::milliseconds(0));
}

void Device::detach_ring() { ring_.detach(*session_.engine()); }

void Device::ring_detached() {
    if (ring_.state() != RingState::kDetaching) return;
    ring_.detached();
    reconcile();
}

// ---- the engine ----

void Device::open_vtpm() {
    if (await_pause()) return;
    if (!uuid_) return fail_for_good("its uuid is missing or malformed");
    if (powered_on_) return fail_for_good("its TPM was powered off; power cycle the guest");
    // In a migration it goes only when this guest runs already.
    if (attachment_.beginning() == Beginning::kResume) {
        const auto waits = services_.is_to_be_suspended(*uuid_, id_);
        if (!waits) return try_later_or_fail(waits.error());
        if (*waits) return try_later("the domain that its guest comes from has not left yet");
    }
    // A manager that was just restarted does not know.
    if (services_.runs_elsewhere(*uuid_, id_)) return try_later(kRunsElsewhere);
    const auto launch = attachment_.launch();
    if (!launch) return try_later_or_fail(launch.error());
    session_.opens();
    services_.manager.open(*uuid_, protocol_version(Channel::kState), *launch,
                           guest_name(services_.xenstore, id_.domain),
                           [weak = std::weak_ptr(self_)](Result<ManagedVtpm> answer) {
                               if (const auto self = weak.lock()) (*self)->opened(std::move(answer));
                           });
}

void Device::opened(Result<ManagedVtpm> answer) {
    session_.opened();
    // Meanwhile; it has been told that nothing runs.
    const bool leaves = is_told_to_leave(look(), closing_is_ours_);
    const bool is_to_be_suspended = has_time_before_save() && is_suspended_unused().value_or(true);
    if (gone_ || (leaves && !is_to_be_suspended)) return reconcile();
    if (!answer) return try_later_or_fail(answer.error());
    const auto facts = services_.domains.ask(id_.domain);
    if (!facts) return try_later_or_fail(facts.error());
    const auto started = session_.start(*uuid_, std::move(*answer), attachment_.beginning(), facts->incarnation);
    if (!started) return try_later_or_fail(started.error());
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
    const auto pause = pause_.next();
    not_before_ = Clock::now() + (leaves ? kRetry : pause);
    (void)await_pause();
}

// A guest that writes makes us look, but not try.
bool Device::await_pause() {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(not_before_ - Clock::now());
    if (left.count() <= 0) return false;
    reconcile_in(retry_, left);
    return true;
}

void Device::try_now() {
    pause_.reset();
    not_before_ = {};
    reconcile();
}

void Device::engine_ready(const Result<> &started) {
    if (session_.state() != EngineState::kStarting && session_.state() != EngineState::kAdopting) return;
    // No guest has had this TPM. (What was to be resumed may be gone: then the next engine says so.) Of one that was
    // left by a former daemon, its own word is no evidence.
    const bool unused = session_.state() == EngineState::kStarting || !notes_.has(DeviceNotes::kPoweredOn);
    if (!started && unused && passes(started.error().code)) {
        reason_ = started.error().text;
        powered_on_ = false;
        return stop_engine();
    }
    if (!started) return fail_for_good(started.error().text);
    if (session_.state() == EngineState::kAdopting) return;  // engine_status() follows
    const XenbusView view = look();
    if (!view.present || is_replaced(view)) return reconcile();  // meanwhile, and this TPM is powered off
    powered_on_ = true;
    // A daemon that knew nothing of it could give a guest zero PCRs.
    if (!notes_.add(DeviceNotes::kPoweredOn, seen(view)))
        return fail_for_good("xenstore does not take that its TPM was powered on");
    pause_.reset();
    session_.runs();
    channel_.engine_runs();
    reconcile();
}

void Device::engine_status(const EngineStatus &status) {
    if (session_.state() != EngineState::kAdopting) return;
    // The former daemon may not have.
    if (!notes_.has(DeviceNotes::kPoweredOn) && !notes_.add(DeviceNotes::kPoweredOn, seen(look())))
        log::error("device {}: xenstore does not take that its TPM was powered on", to_string(id_));
    session_.runs();
    if (status.event_channel != 0)
        ring_.take_over({status.ring_ref, status.event_channel}, look().own == XenbusState::kConnected);
    log::info("device {}: vTPM {} goes on", to_string(id_), uuid_->to_string());
    channel_.take_over(status.state_channel == ErrorCode::kNone);
    reconcile();
}

void Device::stop_engine() {
    if (session_.engine() && session_.state() != EngineState::kStopping) return stop_engine(or_lost(ask_suspended()));
    ring_.lose();
}

void Device::stop_engine(const std::optional<Incarnation> &suspended) {
    ring_.lose();
    session_.stop(suspended);
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
    const bool orderly = end == ExitKind::kOrderly;
    const TpmSession::Ended ended = session_.exited();
    channel_.end();
    ring_.lose();
    if (uuid_) services_.engine_ended(*uuid_, id_);
    // No guest has had this TPM.
    if (end == ExitKind::kWant && !powered_on_) return try_later(how);
    if (!ended.was_told) {
        fail_for_good(reason_.empty() || orderly ? how : reason_ + "; " + how);
        return;
    }
    if (!orderly && ended.was_to_save)
        log::error("device {}: {}; its guest, restored, has no TPM until it is power cycled", to_string(id_), how);
    else if (!orderly)
        log::warning("device {}: {}", to_string(id_), how);
    if (!orderly && !powered_on_) return try_later(reason_);
    reconcile();
}

void Device::state_channel_changed(const Result<> &usable) {
    channel_.changed(usable);
    if (usable && may_be_logged_.take()) log::info("device {}: stores again", to_string(id_));
}

void Device::manager_is_back() {
    channel_.manager_is_back();
    try_now();
}

void Device::tell_stores(const Result<> &stores) {
    if (stores) return reason_.clear();
    const std::string why = "cannot store: " + stores.error().text;
    if (reason_ != why && may_be_logged_.take()) log::error("device {}: {}", to_string(id_), why);
    reason_ = why;
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
        channel_.hurry();
    }
    if (session_.state() == EngineState::kStopping) return;  // its end follows, and Xen has been asked
    const auto asked = ask_suspended();
    const bool has_time = has_time_before_save();
    const auto incarnation = asked || !has_time ? or_lost(asked) : std::nullopt;
    switch (next_leaving_step({.has_time = has_time,
                               .xen_answers = asked.has_value(),
                               .suspended = incarnation.has_value(),
                               .unused = is_unused(),
                               .can_store = channel_.can_store(),
                               .engine = session_.state()})) {
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

// ---- little helpers ----

void Device::set_state(const XenbusView &view, XenbusState state) {
    if (view.own == state) return;
    closing_is_ours_ = state == XenbusState::kClosing;
    const auto written =
        services_.xenstore.update(own_path_, seen(view), TPMIF_KEY_STATE, std::to_string(static_cast<unsigned>(state)));
    if (!written) log::error("device {}: {}", to_string(id_), written.error().text);
    if (written && *written) answered_ = true;
}

void Device::reconcile_in(EventSource &timer, std::chrono::milliseconds delay) {
    if (auto source = services_.loop.after(delay, [this] { reconcile(); })) timer = std::move(*source);
}

std::string Device::status() const {
    if (failed_) return "failed";
    switch (session_.state()) {
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
    return ring_.state() == RingState::kAttached ? "connected" : "running, not connected";
}

}  // namespace vtpm
