// SPDX-License-Identifier: Apache-2.0
// For the day on which the hardware TPM, the store or a vTPM is lost: recovery keys and backups.
#pragma once

#include "manager/cli/commands.hpp"

namespace vtpm::cli {

Result<Json> export_recovery_key(Daemons &daemons, const std::string &group, bool replace);

// `new_ca`: the group's vTPMs are certified by another CA from then on.
Result<Json> rekey_group(Daemons &daemons, const std::string &group, bool new_ca);

// `key`: a file with the recovery key; "-" is standard input.
struct CheckOrder {
    std::string group;
    std::string key = "-";
};
Result<Json> check_recovery_key(Daemons &daemons, const CheckOrder &order);

// What the group is sealed to from now on: `pcrs`, `approver` (a file) or `tpm_only`. None of them: what it was sealed
// to, which is shown and asked for; `yes` is the answer. A generation of 0 is the present one.
struct RecoverOrder {
    std::string group;
    std::string key = "-";
    std::string pcrs;
    std::string approver;
    std::uint32_t generation = 0;
    bool tpm_only = false;
    bool yes = false;
    bool accept_rollback = false;
    bool new_tpm = false;
};
Result<Json> recover_group(Daemons &daemons, const RecoverOrder &order);

// `file`: "-" is standard output; then the document is the backup itself.
// The whole store.
Result<Json> back_up(Daemons &daemons, const std::string &file);
Result<Json> export_vtpm(Daemons &daemons, const std::string &uuid, const std::string &file);

struct ImportOrder {
    std::string file;
    std::string group;
    std::string recovery_key;  // a file; empty: the group is here
    bool replace = false;
    bool original_is_gone = false;
};
Result<Json> import_vtpm(Daemons &daemons, const ImportOrder &order);

// `group` empty: a new store in the place of one that is lost.
Result<Json> recover(Daemons &daemons, const std::string &group);

}  // namespace vtpm::cli
