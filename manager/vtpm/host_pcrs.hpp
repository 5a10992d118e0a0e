// SPDX-License-Identifier: Apache-2.0
// The host's measurements in its guests' TPMs: at each power-on of a vTPM, what chosen PCRs of the hardware TPM are
// then is an event of the vTPM's PCRs with the same numbers. So who attests a guest sees what it runs on.
#pragma once

#include <chrono>
#include <functional>
#include <vector>

#include "base/event_loop.hpp"
#include "manager/keys/group_keys.hpp"
#include "manager/worker.hpp"

namespace vtpm {

class HostPcrs {
public:
    // Commands as host_measurements() has them.
    using Done = std::function<void(const Result<Bytes> &commands)>;

    // `pcrs`: the configuration's word, none by default. 0 to 15: those that no guest can reset.
    HostPcrs(EventLoop &loop, Worker &worker, const GroupKeys &keys, PcrSelection pcrs)
        : loop_(loop), worker_(worker), keys_(keys), pcrs_(std::move(pcrs)) {}

    [[nodiscard]] bool empty() const { return pcrs_.empty(); }
    // What extends the PCRs of a vTPM that was just started up. One reading serves all who asked before it began, and
    // nobody who asked after that. Readings take no more than a seventh of the TPM's time, or come a second apart:
    // those who ask within that wait for the next one.
    void measure(TpmVersion version, Done done);

private:
    using Clock = std::chrono::steady_clock;
    struct Asked {
        TpmVersion version;
        Done done;
    };
    struct Reading {
        std::vector<Asked> by{};
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
    std::vector<Asked> asked_;
    bool ordered_ = false;  // a reading, which has not ended yet
    Clock::time_point next_{};
    EventSource pause_;
};

// TPM commands, one after the other: one event for each PCR, whose data is the PCR's value. Hashed by each bank's own
// algorithm H, it makes a PCR that was zero H(zeros || H(value)). 2.0: TPM2_PCR_Event (Part 3, 22.3). 1.2: TPM_Extend
// (Part 3, 16.1) by the value's SHA-1.
Bytes host_measurements(TpmVersion version, const PcrValues &values);

}  // namespace vtpm
