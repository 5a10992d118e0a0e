// SPDX-License-Identifier: Apache-2.0
// What an engine may do: compute, serve its page, and talk over the descriptors it was given. docs/threat-model.md.
#pragma once

#include <cstdint>

#include "base/result.hpp"

namespace vtpm {

// For the zygote, once: empty mount, network, IPC and UTS namespaces and an empty root, which its engines share.
Result<> enter_empty_world();

// For an engine: another user, with no capability and no way back.
Result<> become_user(std::uint32_t uid);

// For an engine, last: only the system calls of its loop. Anything else kills the process.
Result<> allow_only_engine_calls();

}  // namespace vtpm
