// SPDX-License-Identifier: Apache-2.0
// How long the processes wait for each other. Who waits must have more time than whoever he waits for: the assertions
// at the end.
#pragma once

#include <chrono>

namespace vtpm::limits {

using std::chrono::seconds;

// ---- of others ----

// libxl, for an attach and for a device that is to go.
constexpr seconds kLibxl{10};
// A guest's driver, for the answer to a command: Linux' own for TPM 1.2 at least this, ours much longer.
constexpr seconds kDriver{10};
// systemd, for the end of a daemon: TimeoutStopSec of xen-vtpmd.service.
constexpr seconds kServiceStop{20};

// ---- the backend ----

constexpr seconds kManagerAnswer{5};                       // to PrepareVtpm and OpenVtpm
constexpr std::chrono::milliseconds kManagerConnects{20};  // one that hangs may not accept: all devices wait meanwhile
constexpr seconds kAttach{7};                              // for a manager that is being restarted
constexpr seconds kPowerOff{5};                            // an engine that was told to stop is killed after this
// A device whose guest was saved: first for a manager that is being restarted, or for a TPM that its guest has never
// asked for; then for the engine, which is killed only when all that it waits for itself must be over. libxl does not
// wait that long, and goes on without us; the restored guest waits for its TPM.
constexpr seconds kBeforeSave{4};
constexpr seconds kSave{30};
constexpr seconds kRefusedRetry{30};   // the pause before a state channel that was refused is asked for again
constexpr seconds kDomainAnswer{2};    // of xen-vtpm-domains
constexpr seconds kZygoteLists{10};    // a zygote of a former daemon
constexpr seconds kServiceManager{5};  // systemd, for a scope, and to keep a connection
constexpr seconds kAllPowerOff{15};    // when the daemon is stopped for good

// ---- the engine ----

constexpr seconds kStateAnswer{8};     // the manager's, on the state channel
constexpr seconds kHardwareTpm{120};   // the same while no guest waits yet, and other vTPMs may come before
constexpr seconds kManagerRestart{7};  // a command, for a manager that is being restarted

// ---- the manager ----

constexpr seconds kTpmCommand{2};    // one command of a busy hardware TPM, tried again
constexpr seconds kTpmOperation{4};  // what takes several

// A guest gets a TPM's answer instead of a dead TPM.
static_assert(kStateAnswer < kDriver && kManagerRestart < kDriver);
static_assert(kTpmCommand < kTpmOperation && kTpmOperation < kManagerAnswer && kTpmOperation < kStateAnswer);
static_assert(kManagerAnswer < kAttach && kAttach < kLibxl);
static_assert(kBeforeSave + kPowerOff < kLibxl);
static_assert(kDomainAnswer < kBeforeSave);
// A command that is under way, then the permanent and the volatile state.
static_assert(3 * kStateAnswer < kSave);
static_assert(kPowerOff < kAllPowerOff && kAllPowerOff < kServiceStop);

}  // namespace vtpm::limits
