// SPDX-License-Identifier: Apache-2.0
// The parent of all engines: has libtpms and OpenSSL loaded, and forks one engine for each order of the daemon.
#pragma once

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "shared-protocol/messages.hpp"

namespace vtpm {

// What an engine does when it has the rest of its confinement: its system call filter, then its work. (The tests have
// another, which attacks.)
struct EngineProgram {
    Result<> (*filter)();
    Result<> (*run)(const StartEngine &order, UniqueFd control, UniqueFd state_channel);
};
EngineProgram engine_program();

// Serves the daemon's orders on `control` until the daemon closes it. Engines are not ended with it: they watch their
// own control sockets.
Result<> run_zygote(UniqueFd control, const EngineProgram &program);

}  // namespace vtpm
