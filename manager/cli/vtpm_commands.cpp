// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/vtpm_commands.hpp"

#include <ctime>

#include "base/uuid.hpp"
#include "manager/cli/files.hpp"
#include "manager/cli/text.hpp"

namespace vtpm::cli {
namespace {

struct ListOptions {
    unsigned unused_days = 0;
    ListLayout layout{};
};

Result<Json> list_vtpms(Daemons &daemons, const ListOptions &options) {
    VTPM_TRY(require_columns(options.layout));
    VTPM_ASSIGN(const auto vtpms, daemons.list());
    VTPM_ASSIGN(const auto devices, daemons.devices());
    if (options.unused_days != 0 && !devices)
        return fail(ErrorCode::kUnavailable, "xen-vtpmd, which knows who uses a vTPM, does not run");
    constexpr std::time_t kDay = 86'400;
    const std::time_t since = std::time(nullptr) - kDay * options.unused_days;
    Json rows = Json::array();
    for (const bus::Dictionary &vtpm : vtpms) {
        Json row = vtpm_json(vtpm, devices);
        if (options.unused_days == 0 || unused_since(row).value_or(since) < since) rows.push_back(std::move(row));
    }
    return rows;
}

std::string list_as(const Json &vtpms, const ListOptions &options) { return list_text(vtpms, options.layout); }

void add_list(const Menu &menu) {
    auto [command, options] = menu.add<ListOptions>("list", "List all vTPMs", list_vtpms, list_as);
    command.add_flag("-H", options.layout.plain, "For scripts: no headings, a tab between columns");
    command.add_option("-o", options.layout.columns, "Columns, such as name,uuid,state; default: all")
        ->delimiter(',')
        ->type_name("COLUMN,...");
    command
        .add_option("--unused", options.unused_days,
                    "Only vTPMs that nothing has used for so many days, nor will for a guest that was saved")
        ->check(CLI::Range(1U, 100'000U))
        ->type_name("DAYS");
}

struct ShowOptions {
    std::string vtpm;
};

Result<Json> show_one_vtpm(Daemons &daemons, const ShowOptions &options) { return show_vtpm(daemons, options.vtpm); }

struct AliasOptions {
    std::string vtpm;
    std::string alias;  // empty: none any more
    bool remove = false;
};

Result<Json> set_alias(Daemons &daemons, const AliasOptions &options) {
    if (options.remove != options.alias.empty()) return fail(ErrorCode::kInvalid, "give an alias, or --remove");
    VTPM_ASSIGN(const std::string uuid, resolve(daemons, options.vtpm));
    VTPM_TRY(daemons.set_alias(uuid, options.alias));
    return show_vtpm(daemons, uuid);
}

void add_alias(const Menu &menu) {
    auto [command, options] =
        menu.add<AliasOptions>("alias", "Give a vTPM another name, or take that away", set_alias, show_text);
    command.add_option("VTPM", options.vtpm, kVtpmHelp)->required();
    command.add_option("ALIAS", options.alias, "Its alias: letters, digits, '-', '.' and '_'; no other vTPM's");
    command.add_flag("--remove", options.remove, "It has no alias any more");
}

// Empty texts: the manager's default.
struct CreateOptions {
    std::string uuid;
    std::string version;
    std::string group;
    std::string pcr_banks;
    std::string launch;
};

Result<Json> create(Daemons &daemons, const CreateOptions &options) {
    if (!options.uuid.empty()) VTPM_TRY(require_uuid(options.uuid));
    VTPM_ASSIGN(const std::string created,
                daemons.create(options.uuid, options.version, options.group, options.pcr_banks, options.launch));
    return Json{{"uuid", created}};
}

void add_create(const Menu &menu) {
    auto [command, options] =
        menu.add<CreateOptions>("create", "Create a vTPM and print its UUID", create, create_text);
    command.add_option("UUID", options.uuid, "UUID of the new vTPM; default: a random one");
    command.add_option("--tpm-version", options.version, "TPM version; default: default_tpm of manager.toml")
        ->check(CLI::IsMember({"2.0", "1.2"}));
    command.add_option("--group", options.group, "Group whose key protects the vTPM; default: default");
    command.add_option("--pcr-banks", options.pcr_banks,
                       "PCR banks of a TPM 2.0, such as sha256,sha384; default: profile.pcr_banks of manager.toml");
    command.add_option("--launch", options.launch, "Launch policy, as of launch set; default: launch of manager.toml")
        ->check(CLI::IsMember(launch_policies()));
}

struct DeleteOptions {
    std::string vtpm;
    bool yes = false;
};

Result<Json> delete_vtpm(Daemons &daemons, const DeleteOptions &options) {
    VTPM_ASSIGN(const std::string uuid, resolve(daemons, options.vtpm));
    VTPM_ASSIGN(const auto engines, vtpms_with_engines(daemons));
    if (engines.contains(uuid)) return in_use(uuid);
    // What remains of a vTPM that is not in the inventory has no names.
    const auto known = daemons.show(uuid);
    VTPM_TRY(confirm(options.yes, fmt::format("Deleting vTPM {}{} loses for good what its guest sealed with it.", uuid,
                                              known ? names_in_brackets(json_of(*known)) : std::string())));
    VTPM_TRY(daemons.destroy(uuid));
    return Json{{"uuid", uuid}, {"deleted", true}};
}

struct ReissueOptions {
    std::string vtpm;   // or
    std::string group;  // all of it
    bool withdraw = false;
};

// A vTPM as show has it, or what ReissueGroup answers.
Result<Json> reissue(Daemons &daemons, const ReissueOptions &options) {
    if (!options.group.empty()) {
        VTPM_ASSIGN(const auto ordered, daemons.reissue_group(options.group, options.withdraw));
        return json_of(ordered);
    }
    VTPM_ASSIGN(const std::string uuid, resolve(daemons, options.vtpm));
    VTPM_TRY(daemons.reissue(uuid, options.withdraw));
    return show_vtpm(daemons, uuid);
}

void add_reissue(const Menu &menu) {
    auto [command, options] = menu.add<ReissueOptions>(
        "reissue", "Issue a vTPM's endorsement certificates again, at its next power-on", reissue, reissue_text);
    auto *which = command.add_option_group("which");
    which->add_option("VTPM", options.vtpm, kVtpmHelp);
    which->add_option("--group", options.group, "Order it for all vTPMs of this group that have certificates");
    which->require_option(1);
    command.add_flag("--withdraw", options.withdraw, "Take the order back: keep the present certificates");
}

}  // namespace

void add_vtpm_commands(const Menu &menu) {
    menu.add("status", "Show the manager, what it is sealed to, the groups and the backend", show_status, status_text);
    add_list(menu);
    auto [shown, show_options] =
        menu.add<ShowOptions>("show", "Show a vTPM and the devices that use it", show_one_vtpm, show_text);
    shown.add_option("VTPM", show_options.vtpm, kVtpmHelp)->required();
    add_alias(menu);
    add_create(menu);
    auto [deleted, delete_options] = menu.add<DeleteOptions>(
        "delete", "Delete a vTPM with its key and its state, for good", delete_vtpm, delete_text);
    deleted.add_option("VTPM", delete_options.vtpm, kVtpmHelp)->required();
    add_yes(deleted, delete_options.yes);
    add_reissue(menu);
}

}  // namespace vtpm::cli
