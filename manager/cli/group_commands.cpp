// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/group_commands.hpp"

#include "manager/cli/files.hpp"
#include "manager/cli/group_recovery_commands.hpp"
#include "manager/cli/text.hpp"

namespace vtpm::cli {
namespace {

struct GroupName {
    std::string name;
};

// What its key is sealed to: `approver` is the file of a public key, which the manager judges.
struct SealOptions {
    std::string name;
    std::string pcrs;
    std::string approver;
    bool tpm_only = false;
};

Result<Json> show_one_group(Daemons &daemons, const GroupName &group) { return show_group(daemons, group.name); }

Result<std::string> approver_in(const SealOptions &options) {
    if (options.approver.empty()) return std::string();
    return read_input(options.approver);
}

Result<Json> create_group(Daemons &daemons, const SealOptions &options) {
    VTPM_ASSIGN(const std::string approver, approver_in(options));
    VTPM_TRY(daemons.create_group(options.name, options.pcrs, approver));
    return show_group(daemons, options.name);
}

Result<Json> seal_group(Daemons &daemons, const SealOptions &options) {
    VTPM_ASSIGN(const std::string approver, approver_in(options));
    VTPM_TRY(daemons.reseal_group(options.name, options.pcrs, approver));
    return show_group(daemons, options.name);
}

Result<Json> open_group(Daemons &daemons, const GroupName &group) {
    VTPM_TRY(daemons.open_group(group.name));
    return show_group(daemons, group.name);
}

Result<Json> revoke_approvals(Daemons &daemons, const GroupName &group) {
    VTPM_TRY(daemons.renew_group(group.name));
    return show_group(daemons, group.name);
}

struct RekeyOptions {
    std::string name;
    bool new_ca = false;
};

Result<Json> rekey_group(Daemons &daemons, const RekeyOptions &options) {
    VTPM_TRY(daemons.rekey_group(options.name, options.new_ca));
    return show_group(daemons, options.name);
}

struct DeleteGroupOptions {
    std::string name;
    bool with_vtpms = false;
    bool yes = false;
};

// Of a group that is lost: its guests may run still.
Result<> require_no_engines(Daemons &daemons, const std::string &group) {
    VTPM_ASSIGN(const auto engines, vtpms_with_engines(daemons));
    VTPM_ASSIGN(const auto vtpms, daemons.list());
    for (const bus::Dictionary &vtpm : vtpms) {
        const Json row = json_of(vtpm);
        const std::string uuid = row.value("uuid", "");
        if (row.value("group", "") == group && engines.contains(uuid)) return in_use(uuid);
    }
    return {};
}

Result<Json> delete_group(Daemons &daemons, const DeleteGroupOptions &options) {
    if (options.with_vtpms) VTPM_TRY(require_no_engines(daemons, options.name));
    VTPM_TRY(confirm(options.yes,
                     fmt::format("Deleting group '{}'{} loses its key, and with it all backups that open by it.",
                                 options.name, options.with_vtpms ? " with all its vTPMs" : "")));
    VTPM_TRY(options.with_vtpms ? daemons.discard_group(options.name) : daemons.delete_group(options.name));
    return Json{{"group", options.name}, {"deleted", true}};
}

template <typename Added>
void add_name(Added &added) {
    added.command.add_option("NAME", added.options.name, "Name of the group")->required();
}

// One of the three: what protects the keys is nobody's default.
void add_sealing_options(Menu::Added<SealOptions> added) {
    add_name(added);
    auto *sealed_to = added.command.add_option_group("sealed to");
    sealed_to->add_option("--approver", added.options.approver,
                          "Boots that the owner of this key approves (PEM file of a public key)");
    sealed_to->add_option("--pcrs", added.options.pcrs, "Present values of these PCRs, such as sha256:0,2,4,7");
    sealed_to->add_flag("--tpm-only", added.options.tpm_only, "This TPM, whatever it booted");
    sealed_to->require_option(1);
}

void add_group_delete(const Menu &group) {
    auto added =
        group.add<DeleteGroupOptions>("delete", "Delete a group that has no vTPM", delete_group, delete_group_text);
    add_name(added);
    added.command.add_flag("--with-vtpms", added.options.with_vtpms,
                           "Delete a group that is locked for good, with all its vTPMs");
    add_yes(added.command, added.options.yes);
}

void add_rekey(const Menu &group) {
    auto added = group.add<RekeyOptions>("rekey", "Give an open group and its vTPMs new keys; voids its recovery key",
                                         rekey_group, rekey_text);
    add_name(added);
    added.command.add_flag("--new-ca", added.options.new_ca,
                           "Make a new CA too; its vTPMs get certificates from it by reissue");
}

}  // namespace

void add_group_commands(const Menu &menu) {
    const Menu group = menu.below("group", "Manage groups: vTPMs whose keys open together");
    group.add("list", "List all groups", list_groups, list_groups_text);
    const auto add_named = [&](const char *word, const char *help,
                               Result<Json> (*action)(Daemons &, const GroupName &)) {
        auto added = group.add<GroupName>(word, help, action, show_group_text);
        add_name(added);
    };
    add_named("show", "Show a group", show_one_group);
    add_sealing_options(
        group.add<SealOptions>("create", "Create a group and seal its key", create_group, show_group_text));
    add_named("open", "Try again to open a locked group", open_group);
    add_sealing_options(
        group.add<SealOptions>("seal", "Seal an open group's key to something else", seal_group, show_group_text));
    add_named("revoke-approvals", "Revoke all approvals of a group for good, also those in copies", revoke_approvals);
    add_rekey(group);
    add_group_delete(group);
    add_group_recovery_commands(group);
}

}  // namespace vtpm::cli
