// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/store_commands.hpp"

#include <fmt/ranges.h>

#include "manager/cli/files.hpp"
#include "manager/cli/text.hpp"

namespace vtpm::cli {
namespace {

struct BackupOptions {
    std::string file;
};

Result<Json> back_up(Daemons &daemons, const BackupOptions &options) {
    if (options.file == "-")
        return fail(ErrorCode::kInvalid, "a store goes to a file, not to standard output: name one");
    VTPM_ASSIGN(const auto status, daemons.status());
    VTPM_ASSIGN(const std::string copy, daemons.back_up());
    VTPM_TRY(move_into(copy, options.file));
    const Json manager = json_of(status);
    return Json{
        {"file", options.file}, {"store", manager.value("store", "")}, {"store_id", manager.value("store_id", "")}};
}

struct ExportOptions {
    std::string vtpm;
    std::string file;  // "-": standard output; then the document is the backup itself
};

Result<Json> export_vtpm(Daemons &daemons, const ExportOptions &options) {
    VTPM_ASSIGN(const std::string uuid, resolve(daemons, options.vtpm));
    VTPM_ASSIGN(const std::string backup, daemons.export_vtpm(uuid));
    VTPM_ASSIGN(const Json vtpm, show_vtpm(daemons, uuid));
    const std::string group_name = vtpm.value("group", "");
    VTPM_ASSIGN(const Json group, show_group(daemons, group_name));
    Json exported{{"uuid", uuid},
                  {"file", options.file},
                  {"group", group_name},
                  {"recovery_key", group.value("recovery_key", false)}};
    if (options.file == "-") {
        std::fputs(export_warning(exported).c_str(), stderr);
        exported["backup"] = backup;
        return exported;
    }
    VTPM_TRY(write_output(options.file, backup));
    return exported;
}

struct ImportOptions {
    std::string file;
    std::string group;
    std::string recovery_key;  // a file; empty: the group is here
    bool replace = false;
    bool original_is_destroyed = false;
};

Result<Json> import_vtpm(Daemons &daemons, const ImportOptions &options) {
    VTPM_ASSIGN(const std::string backup, read_input(options.file));
    SecretText key;
    if (!options.recovery_key.empty()) {
        VTPM_ASSIGN(key.text, read_secret(options.recovery_key, "Recovery key"));
    }
    VTPM_ASSIGN(const auto engines, vtpms_with_engines(daemons));
    VTPM_ASSIGN(const std::string uuid,
                daemons.import_vtpm(backup, options.group, key.text, options.replace, options.original_is_destroyed,
                                    fmt::format("{}", fmt::join(engines, " "))));
    return show_vtpm(daemons, uuid);
}

void add_import(const Menu &menu) {
    auto [command, options] =
        menu.add<ImportOptions>("import", "Restore a vTPM from a file that export wrote", import_vtpm, show_text);
    command.add_option("FILE", options.file, "File that export wrote; - is standard input")->required();
    command.add_option("--group", options.group, "Group of the vTPM from now on; default: the one that it had");
    command.add_option("--recovery-key", options.recovery_key,
                       "File with the recovery key of the vTPM's former group, if that is not here; - asks");
    command.add_flag("--replace", options.replace, "Roll the vTPM that is here back to the file's state");
    command.add_flag("--confirm-original-destroyed", options.original_is_destroyed,
                     "Confirm that the vTPM is of another host's store and will never run there again");
}

struct ResetOptions {
    bool yes = false;
};

Result<Json> reset_store(Daemons &daemons, const ResetOptions &options) {
    VTPM_TRY(confirm(options.yes, "Resetting the store loses all vTPMs of the store that the hardware TPM remembers."));
    VTPM_TRY(daemons.start_anew());
    VTPM_ASSIGN(const auto status, daemons.status());
    const Json manager = json_of(status);
    return Json{{"store", manager.value("store", "")}, {"store_id", manager.value("store_id", "")}};
}

}  // namespace

void add_store_commands(const Menu &menu) {
    auto [backup, backup_options] =
        menu.add<BackupOptions>("backup", "Copy the whole store to a file, while guests run", back_up, back_up_text);
    backup.add_option("FILE", backup_options.file, "New file")->required();
    auto [exported, export_options] =
        menu.add<ExportOptions>("export", "Write a vTPM to a file, sealed", export_vtpm, export_text);
    exported.add_option("VTPM", export_options.vtpm, kVtpmHelp)->required();
    exported.add_option("FILE", export_options.file, "New file; - is standard output")->required();
    add_import(menu);
    const Menu store = menu.below("store", "Manage the manager's store");
    auto [reset, reset_options] = store.add<ResetOptions>(
        "reset", "Start with a new store, without the vTPMs of one that is lost", reset_store, reset_store_text);
    add_yes(reset, reset_options.yes);
}

}  // namespace vtpm::cli
