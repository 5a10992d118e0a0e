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

// As predict_policy(), and tpm2_pcrs: for systemd-cryptenroll's --tpm2-pcrs.
Result<Json> predict_launch(const LaunchOrder &order);

}  // namespace vtpm::cli
