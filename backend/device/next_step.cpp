// SPDX-License-Identifier: Apache-2.0
#include "backend/device/next_step.hpp"

namespace vtpm {
namespace {

// What is written already is not written again.
Step say(Step step, XenbusState state, const XenbusView &view) { return view.own == state ? Step::kWait : step; }

// 5 -> 5, 6 -> 6, 1 -> 2: the answers that a closing frontend waits for. A failed device closes and stays closed; one
// whose frontend has published no ring closes too.
Step follow_frontend_away(const XenbusView &view, const Progress &progress) {
    if (progress.ring == RingState::kAttached) return Step::kDetachRing;
    if (progress.ring == RingState::kAttaching || progress.ring == RingState::kDetaching) return Step::kWait;
    const bool closes = progress.failed || progress.ring == RingState::kRefused;
    const Step close = say(Step::kSayClosing, XenbusState::kClosing, view);
    const Step closed = say(Step::kSayClosed, XenbusState::kClosed, view);
    switch (view.frontend) {
        case XenbusState::kClosing:
            return view.own == XenbusState::kClosed ? Step::kWait : close;
        case XenbusState::kClosed:
            return closed;
        case XenbusState::kInitialising:
            return progress.failed ? closed : say(Step::kSayInitWait, XenbusState::kInitWait, view);
        default:
            return closes && view.own != XenbusState::kClosed ? close : Step::kWait;
    }
}

Step connect(const XenbusView &view, const Progress &progress) {
    if (progress.engine == EngineState::kNone) return Step::kOpen;
    if (progress.engine != EngineState::kRunning) return Step::kWait;
    if (progress.ring == RingState::kNone) return Step::kAttachRing;
    if (progress.ring != RingState::kAttached) return Step::kWait;
    if (!progress.ring_is_current) return Step::kDetachRing;
    return say(Step::kSayConnected, XenbusState::kConnected, view);
}

}  // namespace

bool wants_ring(XenbusState frontend) {
    return frontend == XenbusState::kInitialised || frontend == XenbusState::kConnected;
}

// The toolstack's order to leave comes with online = 0, in one transaction, or by 5 alone.
bool is_told_to_leave(const XenbusView &view, bool closing_is_ours) {
    return !view.online || (view.own == XenbusState::kClosing && !closing_is_ours);
}

Step next_step(const XenbusView &view, const Progress &progress) {
    if (progress.gone || !view.present) return Step::kEnd;
    if (view.own == XenbusState::kUnknown) return Step::kWait;  // refused: the toolstack is about to remove it
    if (is_told_to_leave(view, progress.closing_is_ours)) return Step::kLeave;
    if (view.own == XenbusState::kInitialising) return progress.asked ? Step::kWait : Step::kPrepare;
    const bool serves = !progress.failed && progress.ring != RingState::kRefused && wants_ring(view.frontend);
    return serves ? connect(view, progress) : follow_frontend_away(view, progress);
}

LeavingStep next_leaving_step(const Leaving &leaving) {
    const bool has_engine = leaving.engine != EngineState::kNone && leaving.engine != EngineState::kOpening;
    if (leaving.has_time) {
        if (!leaving.xen_answers) return LeavingStep::kWait;
        if (leaving.suspended && leaving.unused)
            return leaving.engine == EngineState::kNone ? LeavingStep::kOpen : LeavingStep::kWait;
        // One that is taken over has not said yet whether it can.
        const bool may_store_later =
            leaving.engine == EngineState::kAdopting || (leaving.engine == EngineState::kRunning && !leaving.can_store);
        if (leaving.suspended && may_store_later) return LeavingStep::kWait;
    }
    if (!has_engine) return LeavingStep::kSayClosed;
    if (leaving.engine == EngineState::kStopping) return LeavingStep::kWait;
    return leaving.suspended ? LeavingStep::kSuspend : LeavingStep::kPowerOff;
}

}  // namespace vtpm
