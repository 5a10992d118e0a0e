// SPDX-License-Identifier: Apache-2.0
// What an engine may do: compute, serve its page, and talk over the descriptors it was given. docs/threat-model.md.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace vtpm {

// For the zygote, once: empty mount, network, IPC and UTS namespaces and an empty root, which its engines share.
Result<> enter_empty_world();

// A child that is alone in a PID namespace of its own: there is no process that it could name. fork(2)'s result.
class LonelyFork {
public:
    // Before enter_empty_world(): needs /proc.
    static Result<LonelyFork> prepare();
    // An error: there is no child.
    [[nodiscard]] Result<pid_t> fork();

private:
    explicit LonelyFork(UniqueFd own) : own_(std::move(own)) {}
    Result<> return_home();

    UniqueFd own_;          // the PID namespace of this process
    bool is_away_ = false;  // its next child would be born into the last one's
};

// For an engine: another user, with no capability and no way back.
Result<> become_user(std::uint32_t uid);

// For an engine: no path can be opened, nothing be made, no signal be sent out (Landlock, as much as the kernel has of
// it).
Result<> give_up_paths();
// 0: this kernel has no Landlock.
int landlock_version();

// For an engine, last: only the system calls of its loop. Anything else kills the process.
Result<> allow_only_engine_calls();

}  // namespace vtpm
