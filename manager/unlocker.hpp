// SPDX-License-Identifier: Apache-2.0
// Unseals the group keys at the start, and again and again while the hardware TPM is away. Tells systemd and the log.
#pragma once

#include <functional>

#include "base/event_loop.hpp"
#include "manager/keys/group_keys.hpp"
#include "manager/worker.hpp"

namespace vtpm {

class Unlocker {
public:
    Unlocker(EventLoop &loop, Worker &worker, GroupKeys &keys) : loop_(loop), worker_(worker), keys_(keys) {}
    // `attempted` runs once: after the first attempt, or when that takes long.
    void start(std::function<void()> attempted);

private:
    void attempt();
    void tell(const Result<> &unlocked);
    void try_later();
    void attempted();

    EventLoop &loop_;
    Worker &worker_;
    GroupKeys &keys_;
    std::function<void()> attempted_;
    EventSource patience_;
    std::chrono::milliseconds wait_{1000};
    EventSource retry_;
};

}  // namespace vtpm
