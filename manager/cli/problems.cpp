// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/problems.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "manager/cli/text.hpp"

namespace vtpm::cli {
namespace {

using Problems = std::vector<Problem>;

// The first group's, or the one that the first start makes.
std::string remedy_for_all(const Json &groups) {
    const std::string name = groups.empty() ? std::string("default") : text(groups.front(), "group");
    const bool recoverable = std::ranges::any_of(groups, has_recovery_key);
    return fmt::format(
        "remove that cause, then: xen-vtpm group open {}{}", name,
        recoverable ? "; or, with its recovery key, one group after the other: xen-vtpm group recover" : "");
}

void add_of_manager(const Json &manager, const Json &groups, Problems &problems) {
    const std::string state = text(manager, "state");
    if (state == "not running") {
        problems.push_back({ErrorCode::kUnavailable,
                            fmt::format("xen-vtpm-managerd does not run ({}): no guest's TPM starts or stores",
                                        text(manager, "reason")),
                            "systemctl start xen-vtpm-managerd; the cause: journalctl -u xen-vtpm-managerd"});
        return;
    }
    if (state == "refusing")
        problems.push_back({ErrorCode::kRefused, fmt::format("all groups are locked: {}", text(manager, "reason")),
                            remedy_for_all(groups)});
    if (const std::string trouble = text(manager, "sealer_trouble"); !trouble.empty())
        problems.push_back({ErrorCode::kUnavailable, fmt::format("the hardware TPM: {}", trouble),
                            "see: journalctl -k --grep tpm; if it stays so, restart this host"});
    if (const std::string lost = text(manager, "lost_group"); !lost.empty())
        problems.push_back({ErrorCode::kRefused, fmt::format("the groups do not fit together: {}", lost),
                            "restore the right store, or do what that line says"});
    if (const std::string trouble = text(manager, "clock_trouble"); !trouble.empty())
        problems.push_back({ErrorCode::kNone, fmt::format("the clock of this host: {}", trouble),
                            "set it (timedatectl), then: xen-vtpm reissue --group NAME"});
}

void add_of_group(const Json &group, Problems &problems) {
    const std::string name = text(group, "group");
    const std::string reason = text(group, "reason");
    if (reason.empty()) return;
    if (text(group, "state") == "waiting")
        problems.push_back({ErrorCode::kUnavailable, fmt::format("group '{}' waits: {}", name, reason),
                            fmt::format("it opens by itself; to try at once: xen-vtpm group open {}", name)});
    else
        problems.push_back(
            {ErrorCode::kRefused, fmt::format("group '{}' is locked: {}", name, reason),
             fmt::format("remove that cause, then: xen-vtpm group open {}", name) +
                 (has_recovery_key(group) ? fmt::format("; or, with its recovery key: xen-vtpm group recover {}", name)
                                          : "")});
}

// What a manager says that refuses all groups is not said again of each.
void add_of_groups(const Json &groups, const Json &manager, Problems &problems) {
    for (const Json &group : groups)
        if (text(manager, "state") != "refusing" || text(group, "reason") != text(manager, "reason"))
            add_of_group(group, problems);
}

// Without a recovery key: what takes the group's vTPMs along.
const char *loss_of(const Json &group) {
    if (text(group, "sealing") == "file") return "the loss of the key file";
    if (!text(group, "approver").empty()) return "another mainboard, or the loss of its approver's key,";
    if (!text(group, "pcrs").empty()) return "another mainboard, or an update that changes its PCRs,";
    return "another mainboard";
}

// While a group is locked, what helps cannot be done.
void add_risks_of_group(const Json &group, Problems &problems) {
    if (!text(group, "reason").empty()) return;
    const std::string name = text(group, "group");
    if (!has_recovery_key(group))
        problems.push_back(
            {ErrorCode::kNone,
             fmt::format("group '{}' has no recovery key: {} loses its vTPMs for good", name, loss_of(group)),
             fmt::format("xen-vtpm group recovery-key {}", name)});
    if (text(group, "sealing") == "file")
        problems.push_back({ErrorCode::kNone,
                            fmt::format("group '{}' is sealed to a file: anyone who has the disk has its keys", name),
                            "use a hardware TPM (sealing = \"tpm\" of manager.toml)"});
    if (!text(group, "approver").empty() && group.value("policies", 1) == 0)
        problems.push_back(
            {ErrorCode::kNone,
             fmt::format("group '{}' has no boot policy: it will be locked at the manager's next start", name),
             "xen-vtpm policy sign, then: xen-vtpm policy install FILE"});
}

// One that waits tries again, its reason with it.
void add_of_device(const Json &device, Problems &problems) {
    const std::string reason = text(device, "reason");
    if (reason.empty()) return;
    const std::string id = text(device, "device");
    problems.push_back(
        {ErrorCode::kSystem,
         fmt::format("device {}, vTPM {}: {}: {}", id, text(device, "uuid"), text(device, "state"), reason),
         fmt::format("remove that cause; if it is not connected then: xl reboot {}", id.substr(0, id.find('/')))});
}

void add_of_backend(const Json &backend, Problems &problems) {
    if (!backend.value("running", false)) {
        problems.push_back({ErrorCode::kUnavailable, "xen-vtpmd does not run: no guest gets a TPM",
                            "systemctl start xen-vtpmd; the cause: journalctl -u xen-vtpmd"});
        return;
    }
    if (backend.value("room", 1) == 0)
        problems.push_back({ErrorCode::kUnavailable, "there is no room for another TPM",
                            "shut a guest down, or give dom0 more memory"});
    for (const Json &device : backend.value("devices", Json::array())) add_of_device(device, problems);
}

// What is locked stays so until somebody does something.
int gravity(const Problem &problem) {
    switch (problem.code) {
        case ErrorCode::kRefused:
            return 0;
        case ErrorCode::kUnavailable:
            return 1;
        case ErrorCode::kNone:
            return 3;
        default:
            return 2;
    }
}

}  // namespace

std::vector<Problem> problems_of(const Json &status) {
    Problems problems;
    const Json groups = status.value("groups", Json::array());
    const Json manager = status.value("manager", Json::object());
    add_of_manager(manager, groups, problems);
    add_of_groups(groups, manager, problems);
    add_of_backend(status.value("backend", Json::object()), problems);
    for (const Json &group : groups) add_risks_of_group(group, problems);
    std::ranges::stable_sort(problems, {}, gravity);
    return problems;
}

}  // namespace vtpm::cli
