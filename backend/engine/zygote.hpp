// SPDX-License-Identifier: Apache-2.0
// The parent of all engines: has libtpms and OpenSSL loaded, and forks one engine for each order of the daemon.
#pragma once

#include "backend/engine/become_engine.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace vtpm {

// Serves the daemon's orders on `control` until the daemon closes it. Engines are not ended with it: they watch their
// own control sockets.
Result<> run_zygote(UniqueFd control, const EngineProgram &program);

}  // namespace vtpm
