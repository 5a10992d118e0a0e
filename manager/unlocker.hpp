// SPDX-License-Identifier: Apache-2.0
// Unseals the group keys at the start, and again, with growing pauses, while some of them wait for the hardware TPM;
// and has done what a rekey that was cut left. Tells systemd and the log.
#pragma once

#include <functional>
#include <string>

#include "base/event_loop.hpp"
#include "manager/groups/group_keys.hpp"
#include "manager/groups/worker.hpp"

namespace vtpm {

class Unlocker {
public:
    Unlocker(EventLoop &loop, Worker &worker, GroupKeys &keys) : loop_(loop), worker_(worker), keys_(keys) {}
    // `attempted` runs once: after the first attempt, or when that takes long.
    void start(std::function<void()> attempted);
    // In the loop, after somebody else may have changed which groups are open, and which wait.
    void look();

private:
    static constexpr std::chrono::milliseconds kFirstWait{1000};
    void attempt();
    void tell();
    void merge();
    void try_later();
    void attempted();

    EventLoop &loop_;
    Worker &worker_;
    GroupKeys &keys_;
    std::function<void()> attempted_;
    std::string told_;  // to systemd
    EventSource patience_;
    std::chrono::milliseconds wait_ = kFirstWait;
    EventSource retry_;
    bool merging_ = false;
};

}  // namespace vtpm
