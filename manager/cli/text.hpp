// SPDX-License-Identifier: Apache-2.0
// The same documents for people.
#pragma once

#include <string>
#include <vector>

#include "manager/cli/commands.hpp"

namespace vtpm::cli {

// An absent key is empty: a daemon of another version may not say.
std::string text(const Json &object, const char *key);
// Its alias, or else its guest's name; empty: it has neither.
std::string vtpm_name(const Json &vtpm);
// "32 us", "4 ms", "2 s"
std::string duration(std::uint64_t microseconds);

std::string status_text(const Json &status);

struct ListLayout {
    std::vector<std::string> columns{};  // names of them, in either case; none: all
    bool plain = false;                  // no headings, a tab between columns
};
// kInvalid: there is no such column.
Result<> require_columns(const ListLayout &layout);
std::string list_text(const Json &vtpms, const ListLayout &layout = {});
// " (alias, guest)", or nothing.
std::string names_in_brackets(const Json &vtpm);

std::string show_text(const Json &vtpm);
std::string reissue_text(const Json &ordered);
std::string create_text(const Json &created);
std::string delete_text(const Json &deleted);
std::string list_groups_text(const Json &groups);
std::string show_group_text(const Json &group);
std::string delete_group_text(const Json &deleted);
std::string rekey_text(const Json &group);
std::string recovery_key_text(const Json &exported);
// What `group recover` would do.
std::string recovery_plan_text(const Json &check);
std::string check_recovery_text(const Json &check);
// What a backup is good for.
std::string export_warning(const Json &exported);
std::string back_up_text(const Json &copied);
std::string reset_store_text(const Json &reset);
std::string export_text(const Json &exported);
std::string show_ca_text(const Json &ca);
std::string export_ca_text(const Json &exported);
std::string predict_policy_text(const Json &boot);
std::string predict_launch_text(const Json &boot);
std::string install_launches_text(const Json &approval);
std::string list_launches_text(const Json &approvals);
std::string remove_launches_text(const Json &removed);
std::string event_log_text(const Json &log);
// What is a file: the same for people and programs.
std::string document_text(const Json &document);
std::string verify_attestation_text(const Json &verdict);
std::string answer_text(const Json &answer);
std::string install_policy_text(const Json &policy);
std::string list_policies_text(const Json &policies);
std::string audit_text(const Json &records);
std::string remove_policy_text(const Json &removed);

}  // namespace vtpm::cli
