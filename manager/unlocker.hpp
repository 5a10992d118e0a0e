// SPDX-License-Identifier: Apache-2.0
// Unseals the group keys at the start, and again and again while the hardware TPM is away. Tells systemd and the log.
#pragma once

#include <functional>

#include "base/event_loop.hpp"
#include "manager/keys/group_keys.hpp"

namespace vtpm {

class Unlocker {
public:
    Unlocker(EventLoop &loop, GroupKeys &keys) : loop_(loop), keys_(keys) {}
    void start() { attempt(); }

private:
    void attempt();
    void try_later();

    EventLoop &loop_;
    GroupKeys &keys_;
    std::chrono::milliseconds wait_{1000};
    EventSource retry_;
};

}  // namespace vtpm
