// SPDX-License-Identifier: Apache-2.0
// xen-vtpm launch: what a measured launch puts into a guest's PCRs, from its files, on any machine.
#pragma once

#include "manager/cli/commands.hpp"

namespace vtpm::cli {

// What `launch predict` was told. `kernel` or `uki`.
struct LaunchOrder {
    std::string kernel;
    std::string initrd;
    std::string command_line;  // empty: that of a UKI
    std::string uki;
    std::string pcrs = "sha256:4,8,9,11,12";
    std::string event_log;   // a new file for the log, in all banks; empty: none
    std::string raw_values;  // a new file for the values, one after the other; empty: none
};

// What `eventlog` was told.
struct EventLogOrder {
    std::string pcrs = "sha256:0-15";
    std::string raw;  // a new file for the log; empty: none
    std::string device = "/dev/tpm0";
};

// As predict_policy(): the events of this guest's TPM, and what they make of its PCRs. kNotFound: it has no log.
Result<Json> show_event_log(const EventLogOrder &order);

// As predict_policy(), and tpm2_pcrs: for systemd-cryptenroll's --tpm2-pcrs.
Result<Json> predict_launch(const LaunchOrder &order);

}  // namespace vtpm::cli
