// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/daemons.hpp"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "shared-protocol/bus_names.hpp"

namespace vtpm::cli {
namespace {

template <typename T>
Result<T> expect(Result<bus::Reply> reply, const char *method) {
    if (!reply) return tl::make_unexpected(std::move(reply).error());
    if (T *value = std::get_if<T>(&*reply)) return std::move(*value);
    return fail(ErrorCode::kSystem, "{} answered something else than this program knows: upgrade both", method);
}

bool is_utf8(const std::string &text) {
    try {
        return !nlohmann::json(text).dump().empty();
    } catch (const nlohmann::json::type_error &) {
        return false;
    }
}

}  // namespace

Result<Daemons> Daemons::reach(bus::Client::StillWaiting still_waiting) {
    VTPM_ASSIGN(bus::Client client, bus::Client::open_system());
    return Daemons(std::move(client), std::move(still_waiting));
}

template <typename T>
Result<T> Daemons::ask_manager(const char *method, const bus::Arguments &arguments) {
    if (!std::ranges::all_of(arguments, is_utf8))  // D-Bus takes nothing else
        return fail(ErrorCode::kInvalid, "what was given to this command, or a file of it, is no text in UTF-8");
    auto value = expect<T>(bus_.call_patiently(kManagerBus, method, arguments, still_waiting_), method);
    if (!value && value.error().code == ErrorCode::kUnavailable)
        return fail(ErrorCode::kUnavailable, "xen-vtpm-managerd: {}; see: systemctl status xen-vtpm-managerd",
                    value.error().text);
    return value;
}

Result<bus::Dictionary> Daemons::status() { return ask_manager<bus::Dictionary>("Status"); }
Result<bus::Rows> Daemons::list() {
    bus::Rows all;
    for (std::string cursor;;) {
        VTPM_ASSIGN(bus::Rows part, ask_manager<bus::Rows>("List", {cursor}));
        cursor.clear();
        if (!part.empty())
            if (const auto next = part.back().extract("next"); !next.empty())
                cursor = std::get<std::string>(next.mapped());
        std::ranges::move(part, std::back_inserter(all));
        if (cursor.empty()) return all;
    }
}
Result<bus::Dictionary> Daemons::show(const std::string &uuid) { return ask_manager<bus::Dictionary>("Show", {uuid}); }
Result<std::string> Daemons::create(const std::string &uuid, const std::string &version, const std::string &group,
                                    const std::string &pcr_banks, const std::string &launch) {
    return ask_manager<std::string>("Create", {uuid, version, group, pcr_banks, launch});
}
Result<std::string> Daemons::find(const std::string &name) { return ask_manager<std::string>("Find", {name}); }

Result<> Daemons::set_alias(const std::string &uuid, const std::string &alias) {
    VTPM_TRY(ask_manager<std::monostate>("SetAlias", {uuid, alias}));
    return {};
}

Result<> Daemons::destroy(const std::string &uuid) {
    VTPM_TRY(ask_manager<std::monostate>("Destroy", {uuid}));
    return {};
}

Result<> Daemons::reissue(const std::string &uuid, bool withdraw) {
    VTPM_TRY(ask_manager<std::monostate>("Reissue", {uuid, withdraw ? "withdraw" : ""}));
    return {};
}
Result<bus::Dictionary> Daemons::reissue_group(const std::string &group, bool withdraw) {
    return ask_manager<bus::Dictionary>("ReissueGroup", {group, withdraw ? "withdraw" : ""});
}

Result<> Daemons::set_launch(const std::string &uuid, const std::string &launch, const std::string &release) {
    VTPM_TRY(ask_manager<std::monostate>("SetLaunch", {uuid, launch, release}));
    return {};
}

Result<bus::Rows> Daemons::groups() { return ask_manager<bus::Rows>("ListGroups"); }
Result<> Daemons::create_group(const std::string &name, const std::string &pcrs, const std::string &approver) {
    VTPM_TRY(ask_manager<std::monostate>("CreateGroup", {name, pcrs, approver}));
    return {};
}
Result<> Daemons::open_group(const std::string &name) {
    VTPM_TRY(ask_manager<std::monostate>("OpenGroup", {name}));
    return {};
}
Result<> Daemons::reseal_group(const std::string &name, const std::string &pcrs, const std::string &approver) {
    VTPM_TRY(ask_manager<std::monostate>("ResealGroup", {name, pcrs, approver}));
    return {};
}
Result<> Daemons::renew_group(const std::string &name) {
    VTPM_TRY(ask_manager<std::monostate>("RenewGroup", {name}));
    return {};
}
Result<> Daemons::rekey_group(const std::string &name, bool new_ca) {
    VTPM_TRY(ask_manager<std::monostate>("RekeyGroup", {name, new_ca ? "new-ca" : ""}));
    return {};
}
Result<> Daemons::delete_group(const std::string &name) {
    VTPM_TRY(ask_manager<std::monostate>("DeleteGroup", {name}));
    return {};
}

Result<> Daemons::discard_group(const std::string &name) {
    VTPM_TRY(ask_manager<std::monostate>("DiscardGroup", {name}));
    return {};
}
Result<std::string> Daemons::export_recovery_key(const std::string &group, bool replace) {
    return ask_manager<std::string>("ExportRecoveryKey", {group, replace ? "replace" : ""});
}
Result<bus::Dictionary> Daemons::check_recovery(const std::string &group, const std::string &recovery_key) {
    return ask_manager<bus::Dictionary>("CheckRecovery", {group, recovery_key});
}
Result<> Daemons::recover_group(const Recovery &recovery, const std::string &recovery_key) {
    VTPM_TRY(ask_manager<std::monostate>(
        "RecoverGroup", {recovery.group, recovery_key, recovery.pcrs, recovery.approver,
                         recovery.generation == 0 ? "" : std::to_string(recovery.generation),
                         recovery.accept_rollback ? "accept-rollback" : "", recovery.new_tpm ? "new-tpm" : ""}));
    return {};
}
Result<std::string> Daemons::export_vtpm(const std::string &uuid) {
    return ask_manager<std::string>("ExportVtpm", {uuid});
}
Result<std::string> Daemons::import_vtpm(const std::string &backup, const std::string &group,
                                         const std::string &recovery_key, bool replace, bool original_is_gone,
                                         const std::string &in_use) {
    return ask_manager<std::string>("ImportVtpm", {backup, group, recovery_key, replace ? "replace" : "",
                                                   original_is_gone ? "original-is-gone" : "", in_use});
}
Result<bus::Dictionary> Daemons::ca(const std::string &group) {
    return ask_manager<bus::Dictionary>("ShowCa", {group});
}
Result<std::string> Daemons::request_ca(const std::string &group) {
    return ask_manager<std::string>("RequestCa", {group});
}
Result<> Daemons::import_ca(const std::string &group, const std::string &certificate) {
    VTPM_TRY(ask_manager<std::monostate>("ImportCa", {group, certificate}));
    return {};
}
Result<std::string> Daemons::attest(const std::string &uuid, const std::string &nonce, const std::string &pcrs) {
    return ask_manager<std::string>("Attest", {uuid, nonce, pcrs});
}
Result<std::string> Daemons::host_identity(const std::string &endorsement_key) {
    return ask_manager<std::string>("HostIdentity", {endorsement_key});
}
Result<std::string> Daemons::answer_challenge(const std::string &challenge) {
    return ask_manager<std::string>("AnswerChallenge", {challenge});
}
Result<> Daemons::accept_rollback(const std::string &group) {
    VTPM_TRY(ask_manager<std::monostate>("AcceptRollback", {group}));
    return {};
}
Result<> Daemons::start_anew() {
    VTPM_TRY(ask_manager<std::monostate>("StartAnew"));
    return {};
}
Result<std::string> Daemons::back_up() { return ask_manager<std::string>("BackUp"); }
Result<bus::Rows> Daemons::audit_log() { return ask_manager<bus::Rows>("AuditLog"); }
Result<> Daemons::verify_audit_log() {
    VTPM_TRY(ask_manager<std::monostate>("VerifyAuditLog"));
    return {};
}
Result<std::string> Daemons::install_policy(const std::string &document) {
    return ask_manager<std::string>("InstallPolicy", {document});
}
Result<bus::Rows> Daemons::policies() { return ask_manager<bus::Rows>("ListPolicies"); }
Result<> Daemons::revoke_policy(const std::string &id) {
    VTPM_TRY(ask_manager<std::monostate>("RevokePolicy", {id}));
    return {};
}

Result<std::string> Daemons::install_launches(const std::string &document) {
    return ask_manager<std::string>("InstallLaunches", {document});
}
Result<bus::Rows> Daemons::launches() { return ask_manager<bus::Rows>("ListLaunches"); }
Result<> Daemons::remove_launches(const std::string &id) {
    VTPM_TRY(ask_manager<std::monostate>("RemoveLaunches", {id}));
    return {};
}

template <typename T>
Result<std::optional<T>> Daemons::ask_backend(const char *method) {
    auto value = expect<T>(bus_.call(kBackendBus, method), method);
    if (!value && value.error().code == ErrorCode::kUnavailable) return std::nullopt;
    if (!value) return tl::make_unexpected(std::move(value).error());
    return std::move(*value);
}

Result<std::optional<bus::Rows>> Daemons::devices() { return ask_backend<bus::Rows>("ListDevices"); }
Result<std::optional<bus::Rows>> Daemons::meters() { return ask_backend<bus::Rows>("ListMeters"); }
Result<std::optional<bus::Dictionary>> Daemons::backend_status() { return ask_backend<bus::Dictionary>("Status"); }

}  // namespace vtpm::cli
