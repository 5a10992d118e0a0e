// SPDX-License-Identifier: Apache-2.0
// The host's measurements in its guests' TPMs: at each power-on of a vTPM, what chosen PCRs of the hardware TPM are
// then is an event of the vTPM's PCRs with the same numbers. So who attests a guest sees what it runs on.
#pragma once

#include "manager/keys/group_keys.hpp"

namespace vtpm {

class HostPcrs {
public:
    // `pcrs`: the configuration's word, none by default. 0 to 15: those that no guest can reset.
    HostPcrs(const GroupKeys &keys, PcrSelection pcrs) : keys_(keys), pcrs_(std::move(pcrs)) {}

    [[nodiscard]] bool empty() const { return pcrs_.empty(); }
    // What extends the PCRs of a vTPM that was just started up (host_measurements). Waits for the hardware TPM: in the
    // worker.
    [[nodiscard]] Result<Bytes> measure(TpmVersion version) const;

private:
    const GroupKeys &keys_;
    PcrSelection pcrs_;
};

// TPM commands, one after the other: one event for each PCR, whose data is the PCR's value. Hashed by each bank's own
// algorithm H, it makes a PCR that was zero H(zeros || H(value)). 2.0: TPM2_PCR_Event (Part 3, 22.3). 1.2: TPM_Extend
// (Part 3, 16.1) by the value's SHA-1.
Bytes host_measurements(TpmVersion version, const PcrValues &values);

}  // namespace vtpm
