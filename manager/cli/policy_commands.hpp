// SPDX-License-Identifier: Apache-2.0
// xen-vtpm policy: what an approver does on his own machine, without any daemon, and what a host then does with it.
#pragma once

#include "manager/cli/commands.hpp"

namespace vtpm::cli {

// What `policy sign` was told. `values`: a file of `policy predict`; empty: this host's own boot.
struct SignOrder {
    std::string key;
    std::string group = "default";
    std::uint32_t generation = 1;
    std::string pcrs;
    std::string values;  // file; empty only with this_host
    bool this_host = false;
    std::string not_after;
};

// The PCRs that tell what booted dom0: firmware, boot loader and who signed it, GRUB's commands and files, what a UKI
// was given (decision 0016).
constexpr const char *kUsualPcrs = "sha256:0,2,4,7,8,9,12,13";

// What `policy predict` was told.
struct PredictOrder {
    std::string pcrs;
    bool next = false;      // the boot that comes, not the present one
    std::string event_log;  // file, of the present boot; empty: this host's, with its PCRs
    std::string root;       // directory of what the next boot finds; empty: this host
};
Result<Json> predict_policy(const PredictOrder &order);
// The document, which is the file to install.
Result<Json> sign_policy(const SignOrder &order);

// `file`: "-" is standard input.
Result<Json> install_policy(Daemons &daemons, const std::string &file);
Result<Json> list_policies(Daemons &daemons);
Result<Json> revoke_policy(Daemons &daemons, const std::string &id);

}  // namespace vtpm::cli
