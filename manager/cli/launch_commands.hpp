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

// What `launch set` was told. `release`: a file of `launch release`; empty: none.
struct SetLaunchOrder {
    std::string uuid;
    std::string launch;
    std::string release;
};
Result<Json> set_launch(Daemons &daemons, const SetLaunchOrder &order);

// What `launch sign` was told. `values`: files of `launch predict`; their names, without ".json", are the labels where
// there are none of these.
struct SignLaunchesOrder {
    std::string key;
    std::string group = "default";
    std::uint32_t generation = 1;
    std::vector<std::string> vtpms;
    std::vector<std::string> labels;
    std::vector<std::string> values;
};
// The document, which is the file to install.
Result<Json> sign_launches(const SignLaunchesOrder &order);

// What `launch release` was told.
struct ReleaseOrder {
    std::string key;
    std::string uuid;
    std::string binding;
};
// The document, for `launch set --release`.
Result<Json> release_launch(const ReleaseOrder &order);

// `file`: "-" is standard input.
Result<Json> install_launches(Daemons &daemons, const std::string &file);
Result<Json> list_launches(Daemons &daemons);
Result<Json> remove_launches(Daemons &daemons, const std::string &id);

}  // namespace vtpm::cli
