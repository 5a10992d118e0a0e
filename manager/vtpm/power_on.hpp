// SPDX-License-Identifier: Apache-2.0
// What is in a vTPM's PCRs before its guest has it: what the host is (host_pcrs.hpp), and what the guest booted.
#pragma once

#include <span>
#include <string>

#include "manager/boot/launch_approval.hpp"
#include "manager/store/records.hpp"
#include "manager/tpm/pcr_values.hpp"

namespace vtpm {

// kRefused: it requires a launch that was measured.
Result<> may_be_unmeasured(const VtpmRecord &vtpm);

// Of a vTPM that asks for approved launches (LaunchPolicy::kRequireApproved): whether `launch`, as in OpenVtpm, is one
// that its approver signed, by these approvals, for its group in this generation. The label of that launch. kRefused
// says what differs from the one that comes nearest.
Result<std::string> approved_launch(const VtpmRecord &vtpm, ByteView launch, std::uint32_t generation,
                                    std::span<const LaunchApproval> approvals);

struct PowerOnEvents {
    // TPM commands, one after the other, for a TPM that was just started up. 2.0: kGiveEventLog, then one
    // TPM2_PCR_Extend (Part 3, 22.2) for each event of that log; nothing if there is no event. 1.2: TPM_Extend (Part 3,
    // 16.1).
    Bytes commands;
    Bytes event_log;  // of a TPM 2.0; empty: there is no event
};

// The host's first. `launch`: as in OpenVtpm. kInvalid: that is no log of a launch, or lacks a bank of this TPM.
Result<PowerOnEvents> power_on_events(const VtpmRecord &vtpm, const PcrValues &host_pcrs, ByteView launch);

}  // namespace vtpm
