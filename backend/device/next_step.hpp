// SPDX-License-Identifier: Apache-2.0
// What a device does next: a function of what xenstore says, which is the toolstack's word and the guest's, and of how
// far the device is. docs/protocol.md, "xenstore: the device"; the tests have the tables.
#pragma once

#include <cstdint>

#include "shared-protocol/xenstore_names.hpp"

namespace vtpm {

// One look. What is absent or malformed is kUnknown.
struct XenbusView {
    bool present = false;  // the toolstack has not removed the device
    bool online = false;
    XenbusState own = XenbusState::kUnknown;
    XenbusState frontend = XenbusState::kUnknown;
};

enum class EngineState : std::uint8_t { kNone, kOpening, kStarting, kAdopting, kRunning, kStopping };
// kRefused: what the frontend has published is no ring. Until it has started over, or published another.
enum class RingState : std::uint8_t { kNone, kAttaching, kAttached, kDetaching, kRefused };

struct Progress {
    bool gone = false;             // a look has found it removed: what is there now is another device
    bool asked = false;            // the manager has been asked whether this vTPM may be attached
    bool failed = false;           // until the guest is power cycled, or the device detached
    bool closing_is_ours = false;  // state 5 was written by us; otherwise it is the toolstack's order to leave
    EngineState engine = EngineState::kNone;
    RingState ring = RingState::kNone;
    bool ring_is_current = false;  // of an attached one, while the frontend wants one: it is still the same
};

enum class Step : std::uint8_t {
    kWait,        // for the guest, the toolstack, the manager or the engine
    kEnd,         // power off: the device has gone
    kLeave,       // see next_leaving_step()
    kPrepare,     // ask whether this vTPM may be attached
    kOpen,        // ask the manager for its state, start its engine
    kAttachRing,  //
    kDetachRing,
    kSayInitWait,  // write this state
    kSayConnected,
    kSayClosing,
    kSayClosed,
};

// The frontend has published its ring.
bool wants_ring(XenbusState frontend);

Step next_step(const XenbusView &view, const Progress &progress);

// By the toolstack, and not by a frontend that closes.
bool is_told_to_leave(const XenbusView &view, bool closing_is_ours);

// A device that was told to leave. libxl waits for some seconds: `has_time` is whether they have not passed yet.
struct Leaving {
    bool has_time = false;
    bool xen_answers = false;  // whether its domain is suspended is known
    bool suspended = false;    // its guest has been saved, or goes to another host
    bool unused = false;       // its guest never asked for the TPM
    bool can_store = false;    // what the TPM knows
    EngineState engine = EngineState::kNone;
};

enum class LeavingStep : std::uint8_t {
    kWait,      // and look again soon
    kOpen,      // power on, to be suspended at once: so the restored guest finds what it would have found here
    kSuspend,   // store what the TPM knows, and end
    kPowerOff,  //
    kSayClosed,
};

LeavingStep next_leaving_step(const Leaving &leaving);

}  // namespace vtpm
