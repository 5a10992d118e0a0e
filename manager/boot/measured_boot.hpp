// SPDX-License-Identifier: Apache-2.0
// What a host booted, as its PCRs and its firmware's log tell: what an approver looks at before he signs. Read from the
// kernel, without a daemon; as a file it goes to the machine that has the approver's key.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "manager/boot/boot_chain.hpp"
#include "manager/boot/event_log.hpp"

namespace vtpm {

struct MeasuredBoot {
    PcrSelection pcrs;
    PcrValues values;
    std::vector<BootEvent> events;      // of these PCRs; none if the kernel has no log
    std::vector<unsigned> unexplained;  // PCRs whose value is not that of their events
    BootChain chain{};
    std::map<unsigned, std::string> unknown{};  // of a prediction: PCRs without a value, and why
};

struct BootSources {
    std::string pcrs = "/sys/class/tpm/tpm0";
    std::string event_log = "/sys/kernel/security/tpm0/binary_bios_measurements";

    // Of the hardware TPM; where there are several, or none, of the kernel's first.
    static BootSources of_this_host();
};

// The events of `pcrs` in the log at `path`. None if there is no log, or one that the kernel did not understand either.
std::vector<BootEvent> read_event_log(const PcrSelection &pcrs, const std::string &path);

// kUnavailable: the kernel knows no TPM with such PCRs.
Result<MeasuredBoot> measure_boot(const PcrSelection &pcrs, const BootSources &sources);

// The next one (next_boot.hpp), from the files and variables under `root` and the event log of the present boot.
// Without `sources.pcrs` of that alone. kUnavailable: nothing of it can be known, or there is no log.
Result<MeasuredBoot> predict_boot(const PcrSelection &pcrs, const BootSources &sources, const std::string &root);

std::string to_json(const MeasuredBoot &boot);
// The PCRs and their values in what `policy measure` printed, with --json or for people, which may have been edited:
// predictions. Of those without a value, their numbers.
Result<MeasuredBoot> parse_measured_boot(std::string_view text);

}  // namespace vtpm
