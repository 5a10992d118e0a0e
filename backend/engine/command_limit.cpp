// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/command_limit.hpp"

#include <sys/time.h>
#include <unistd.h>

#include <csignal>

#include "shared-protocol/messages.hpp"

namespace vtpm {
namespace {

// Shared with the signal's handler only.
volatile std::sig_atomic_t under_way = 0;
volatile std::sig_atomic_t seen = 0;  // by the former tick, in the same command

void tick(int) {
    if (under_way == 0) return;
    if (seen != 0) ::_exit(kCommandTookTooLong);
    seen = 1;
}

}  // namespace

Result<> limit_commands(std::chrono::seconds period) {
    struct sigaction action {};
    action.sa_handler = tick;
    action.sa_flags = SA_RESTART;
    if (::sigaction(SIGPROF, &action, nullptr) != 0) return fail_errno("sigaction");
    const timeval every{period.count(), 0};
    const itimerval timer{every, every};
    return ::setitimer(ITIMER_PROF, &timer, nullptr) == 0 ? Result<>{} : fail_errno("setitimer");
}

CommandUnderWay::CommandUnderWay() {
    seen = 0;
    under_way = 1;
}

CommandUnderWay::~CommandUnderWay() { under_way = 0; }

}  // namespace vtpm
