// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/recovery_commands.hpp"

#include <fmt/ranges.h>

#include "manager/cli/files.hpp"
#include "manager/cli/text.hpp"

namespace vtpm::cli {
namespace {

// Wiped when it goes.
struct SecretText {
    std::string text;
    explicit SecretText(std::string secret) : text(std::move(secret)) {}
    SecretText(const SecretText &) = delete;
    SecretText &operator=(const SecretText &) = delete;
    ~SecretText() { ::explicit_bzero(text.data(), text.size()); }
};

Result<std::string> recovery_key_in(const ImportOrder &order) {
    if (order.recovery_key.empty()) return std::string();
    return read_secret(order.recovery_key, "Recovery key");
}

bool chosen(const RecoverOrder &order) { return order.tpm_only || !order.pcrs.empty() || !order.approver.empty(); }

constexpr const char *kChoices = "--pcrs, --approver or --tpm-only";

// What the group was sealed to, if somebody who saw it says that it be so again.
Result<> confirm(const Json &check, const RecoverOrder &order, Daemons::Recovery &recovery) {
    std::fputs(recovery_plan_text(check).c_str(), stderr);
    const bool sure =
        check.value("policy_known", false) && check.value("remembered", false) && check.value("difference", "").empty();
    if (!sure)
        return fail(ErrorCode::kRefused, "what group '{}' is to be sealed to is yours to say, by {}", order.group,
                    kChoices);
    if (!order.yes && !says_yes("Seal it so?"))
        return fail(ErrorCode::kRefused, "nothing was changed. To seal group '{}' so: --yes; to something else: {}",
                    order.group, kChoices);
    recovery.pcrs = check.value("pcrs", "");
    recovery.approver = check.value("approver_key", "");
    recovery.generation = check.value("generation", 0U);
    return {};
}

Result<Daemons::Recovery> recovery_of(Daemons &daemons, const RecoverOrder &order, const std::string &key) {
    Daemons::Recovery recovery{order.group, order.pcrs, {}, order.generation, order.accept_rollback, order.new_tpm};
    if (!order.approver.empty()) {
        VTPM_ASSIGN(recovery.approver, read_input(order.approver));
    }
    VTPM_ASSIGN(const auto answer, daemons.check_recovery(order.group, key));
    const Json check = json_of(answer);
    if (check.value("open", false)) return fail(ErrorCode::kInvalid, "group '{}' is open", order.group);
    // Before anything is asked.
    if (const std::string new_tpm = check.value("new_tpm", ""); !new_tpm.empty() && !order.new_tpm)
        return fail(ErrorCode::kRefused, "{}", new_tpm);
    if (!chosen(order)) {
        VTPM_TRY(confirm(check, order, recovery));
    } else if (const std::string difference = check.value("difference", ""); !difference.empty()) {
        std::fprintf(stderr, "xen-vtpm: %s\n", difference.c_str());
    }
    return recovery;
}

}  // namespace

Result<Json> export_recovery_key(Daemons &daemons, const std::string &group, bool replace) {
    VTPM_ASSIGN(const std::string key, daemons.export_recovery_key(group, replace));
    return Json{{"group", group}, {"recovery_key", key}};
}

Result<Json> rekey_group(Daemons &daemons, const std::string &group, bool new_ca) {
    VTPM_TRY(daemons.rekey_group(group, new_ca));
    return show_group(daemons, group);
}

Result<Json> check_recovery_key(Daemons &daemons, const CheckOrder &order) {
    VTPM_ASSIGN(std::string text, read_secret(order.key, "Recovery key"));
    const SecretText key(std::move(text));
    VTPM_ASSIGN(const auto answer, daemons.check_recovery(order.group, key.text));
    Json check = json_of(answer);
    check.erase("approver_key");
    return check;
}

Result<Json> recover_group(Daemons &daemons, const RecoverOrder &order) {
    VTPM_ASSIGN(std::string text, read_secret(order.key, "Recovery key"));
    const SecretText key(std::move(text));
    VTPM_ASSIGN(const Daemons::Recovery recovery, recovery_of(daemons, order, key.text));
    VTPM_TRY(daemons.recover_group(recovery, key.text));
    return show_group(daemons, order.group);
}

Result<Json> back_up(Daemons &daemons, const std::string &file) {
    if (file == "-") return fail(ErrorCode::kInvalid, "a store goes to a file, not to standard output: name one");
    VTPM_ASSIGN(const auto status, daemons.status());
    VTPM_ASSIGN(const std::string copy, daemons.back_up());
    VTPM_TRY(move_into(copy, file));
    const Json manager = json_of(status);
    return Json{{"file", file}, {"store", manager.value("store", "")}, {"store_id", manager.value("store_id", "")}};
}

Result<Json> export_vtpm(Daemons &daemons, const std::string &uuid, const std::string &file) {
    VTPM_ASSIGN(const std::string backup, daemons.export_vtpm(uuid));
    VTPM_ASSIGN(const Json vtpm, show(daemons, uuid));
    const std::string group_name = vtpm.value("group", "");
    VTPM_ASSIGN(const Json group, show_group(daemons, group_name));
    Json exported{
        {"uuid", uuid}, {"file", file}, {"group", group_name}, {"recovery_key", group.value("recovery_key", false)}};
    if (file == "-") {
        std::fputs(export_warning(exported).c_str(), stderr);
        exported["backup"] = backup;
        return exported;
    }
    VTPM_TRY(write_output(file, backup));
    return exported;
}

Result<Json> import_vtpm(Daemons &daemons, const ImportOrder &order) {
    VTPM_ASSIGN(const std::string backup, read_input(order.file));
    VTPM_ASSIGN(std::string text, recovery_key_in(order));
    const SecretText key(std::move(text));
    VTPM_ASSIGN(const auto engines, vtpms_with_engines(daemons));
    VTPM_ASSIGN(const std::string uuid,
                daemons.import_vtpm(backup, order.group, key.text, order.replace, order.original_is_gone,
                                    fmt::format("{}", fmt::join(engines, " "))));
    return show(daemons, uuid);
}

Result<Json> recover(Daemons &daemons, const std::string &group) {
    if (group.empty())
        VTPM_TRY(daemons.start_anew());
    else
        VTPM_TRY(daemons.accept_rollback(group));
    return status(daemons);
}

}  // namespace vtpm::cli
