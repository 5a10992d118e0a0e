// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/vtpm_commands.hpp"

#include "base/uuid.hpp"
#include "manager/cli/files.hpp"
#include "manager/cli/text.hpp"

namespace vtpm::cli {
namespace {

Result<Json> list_vtpms(Daemons &daemons) {
    VTPM_ASSIGN(const auto vtpms, daemons.list());
    VTPM_ASSIGN(const auto devices, daemons.devices());
    Json rows = Json::array();
    for (const bus::Dictionary &vtpm : vtpms) rows.push_back(vtpm_json(vtpm, devices));
    return rows;
}

struct ShowOptions {
    std::string uuid;
};

Result<Json> show_one_vtpm(Daemons &daemons, const ShowOptions &options) { return show_vtpm(daemons, options.uuid); }

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
        ->check(CLI::IsMember(kLaunchPolicies));
}

struct DeleteOptions {
    std::string uuid;
    bool yes = false;
};

Result<Json> delete_vtpm(Daemons &daemons, const DeleteOptions &options) {
    VTPM_TRY(require_uuid(options.uuid));
    VTPM_ASSIGN(const auto engines, vtpms_with_engines(daemons));
    if (engines.contains(Uuid::parse(options.uuid)->to_string())) return in_use(options.uuid);
    VTPM_TRY(confirm(options.yes,
                     fmt::format("Deleting vTPM {} loses for good what its guest sealed with it.", options.uuid)));
    VTPM_TRY(daemons.destroy(options.uuid));
    return Json{{"uuid", options.uuid}, {"deleted", true}};
}

struct ReissueOptions {
    std::string uuid;   // or
    std::string group;  // all of it
    bool withdraw = false;
};

// A vTPM as show has it, or what ReissueGroup answers.
Result<Json> reissue(Daemons &daemons, const ReissueOptions &options) {
    if (!options.group.empty()) {
        VTPM_ASSIGN(const auto ordered, daemons.reissue_group(options.group, options.withdraw));
        return json_of(ordered);
    }
    VTPM_TRY(require_uuid(options.uuid));
    VTPM_TRY(daemons.reissue(options.uuid, options.withdraw));
    return show_vtpm(daemons, options.uuid);
}

void add_reissue(const Menu &menu) {
    auto [command, options] = menu.add<ReissueOptions>(
        "reissue", "Issue a vTPM's endorsement certificates again, at its next power-on", reissue, reissue_text);
    auto *which = command.add_option_group("which");
    which->add_option("UUID", options.uuid, "UUID of the vTPM");
    which->add_option("--group", options.group, "Order it for all vTPMs of this group that have certificates");
    which->require_option(1);
    command.add_flag("--withdraw", options.withdraw, "Take the order back: keep the present certificates");
}

}  // namespace

void add_vtpm_commands(const Menu &menu) {
    menu.add("status", "Show the manager, what it is sealed to, the groups and the backend", show_status, status_text);
    menu.add("list", "List all vTPMs", list_vtpms, list_text);
    auto [shown, show_options] =
        menu.add<ShowOptions>("show", "Show a vTPM and the devices that use it", show_one_vtpm, show_text);
    shown.add_option("UUID", show_options.uuid, "UUID of the vTPM")->required();
    add_create(menu);
    auto [deleted, delete_options] = menu.add<DeleteOptions>(
        "delete", "Delete a vTPM with its key and its state, for good", delete_vtpm, delete_text);
    deleted.add_option("UUID", delete_options.uuid, "UUID of the vTPM")->required();
    add_yes(deleted, delete_options.yes);
    add_reissue(menu);
}

}  // namespace vtpm::cli
