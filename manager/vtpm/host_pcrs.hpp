// SPDX-License-Identifier: Apache-2.0
// The host's measurements in its guests' TPMs: at each power-on of a vTPM, what chosen PCRs of the hardware TPM are
// then is an event of the vTPM's PCRs with the same numbers. So who attests a guest sees what it runs on.
#pragma once

#include <chrono>
#include <functional>
#include <vector>

#include "base/event_loop.hpp"
#include "manager/groups/group_keys.hpp"
#include "manager/groups/worker.hpp"

namespace vtpm {

class HostPcrs {
public:
    using Done = std::function<void(const Result<PcrValues> &values)>;

    // `pcrs`: the configuration's word, none by default. 0 to 15: those that no guest can reset.
    HostPcrs(EventLoop &loop, Worker &worker, const GroupKeys &keys, PcrSelection pcrs)
        : loop_(loop), worker_(worker), keys_(keys), pcrs_(std::move(pcrs)) {}

    [[nodiscard]] bool empty() const { return pcrs_.empty(); }
    // As many and as large as they will be, all zero.
    [[nodiscard]] PcrValues blank() const;
    // What they are. One reading serves all who asked before it began, and
    // nobody who asked after that. Readings take no more than a seventh of the TPM's time, or come a second apart:
    // those who ask within that wait for the next one.
    void measure(Done done);

private:
    using Clock = std::chrono::steady_clock;
    struct Reading {
        std::vector<Done> by{};
        Result<PcrValues> values = PcrValues();
        Clock::duration took{};
    };
    void order();
    void read();
    void read_done(const Reading &reading);

    EventLoop &loop_;
    Worker &worker_;
    const GroupKeys &keys_;
    PcrSelection pcrs_;
    std::vector<Done> asked_;
    bool ordered_ = false;  // a reading, which has not ended yet
    Clock::time_point next_{};
    EventSource pause_;
};

}  // namespace vtpm
