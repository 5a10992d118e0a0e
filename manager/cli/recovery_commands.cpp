// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/recovery_commands.hpp"

#include "manager/cli/files.hpp"

namespace vtpm::cli {
namespace {

Result<std::string> recovery_key_in(const ImportOrder &order) {
    if (order.recovery_key.empty()) return std::string();
    return read_secret(order.recovery_key, "Recovery key");
}

}  // namespace

Result<Json> export_recovery_key(Daemons &daemons, const std::string &group, bool replace) {
    VTPM_ASSIGN(const std::string key, daemons.export_recovery_key(group, replace));
    return Json{{"group", group}, {"recovery_key", key}};
}

Result<Json> recover_group(Daemons &daemons, const RecoverOrder &order) {
    VTPM_ASSIGN(std::string key, read_secret(order.key, "Recovery key"));
    const Result<> recovered = daemons.recover_group(order.group, key, order.accept_rollback);
    ::explicit_bzero(key.data(), key.size());
    if (!recovered) return tl::make_unexpected(recovered.error());
    return show_group(daemons, order.group);
}

Result<Json> export_vtpm(Daemons &daemons, const std::string &uuid, const std::string &file) {
    VTPM_ASSIGN(const std::string backup, daemons.export_vtpm(uuid));
    VTPM_TRY(write_output(file, backup));
    return Json{{"uuid", uuid}, {"file", file}};
}

Result<Json> import_vtpm(Daemons &daemons, const ImportOrder &order) {
    VTPM_ASSIGN(const std::string backup, read_input(order.file));
    VTPM_ASSIGN(std::string key, recovery_key_in(order));
    const auto uuid = daemons.import_vtpm(backup, order.group, key, order.replace, order.original_is_gone);
    ::explicit_bzero(key.data(), key.size());
    if (!uuid) return tl::make_unexpected(uuid.error());
    return show(daemons, *uuid);
}

Result<Json> recover(Daemons &daemons, const std::string &group) {
    if (group.empty())
        VTPM_TRY(daemons.start_anew());
    else
        VTPM_TRY(daemons.accept_rollback(group));
    return status(daemons);
}

}  // namespace vtpm::cli
