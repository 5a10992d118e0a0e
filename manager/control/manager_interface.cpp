// SPDX-License-Identifier: Apache-2.0
#include "manager/control/manager_interface.hpp"

#include <algorithm>

#include "base/number.hpp"
#include "manager/attestation/enrolment.hpp"
#include "manager/ca/clock.hpp"
#include "manager/ca/endorsement.hpp"
#include "manager/crypto/encoding.hpp"
#include "version.hpp"

namespace vtpm {
namespace {

constexpr std::chrono::seconds kLongCommand{5};

std::string utc(std::int64_t seconds) {
    if (seconds < 0 || seconds > kLastUtc) return "unknown";  // a damaged row
    return to_utc(seconds);
}

std::string fingerprint_of(const Bytes &area) {
    const auto approver = ApproverKey::from_public_area(area);
    return approver ? approver->fingerprint() : std::string();
}

bus::Dictionary describe(const VtpmInfo &vtpm) {
    return {
        {"uuid", vtpm.record.uuid.to_string()},
        {"tpm", std::string(to_string(vtpm.record.version))},
        {"pcr_banks", vtpm.record.profile.pcr_banks.to_string()},
        {"algorithms", vtpm.record.profile.algorithms},
        {"group", vtpm.record.group},
        {"sequence", vtpm.record.sequence},
        {"created", utc(vtpm.record.created)},
        {"alias", vtpm.record.alias},
        {"guest", vtpm.record.guest},
        {"last_used", vtpm.record.last_used == 0 ? std::string() : utc(vtpm.record.last_used)},
        {"in_use", vtpm.in_use},
        {"launch", std::string(to_string(vtpm.record.launch))},
        {"launch_approver", fingerprint_of(vtpm.record.launch_approver)},
        {"launch_binding", to_hex(vtpm.record.launch_binding)},
        {"saved", !vtpm.record.volatile_tag.empty()},
        {"reissue", awaits_reissue(vtpm.record.endorsement)},
        {"reason", vtpm.refusal},
    };
}

Result<Uuid> uuid_of(const std::string &text) {
    const auto uuid = Uuid::parse(text);
    if (!uuid) return fail(ErrorCode::kInvalid, "'{}' is not a UUID", text);
    return *uuid;
}

// Empty, unless it keeps us waiting for longer than any command takes.
std::string tpm_trouble(const Worker &worker) {
    const auto since = worker.waiting_since();
    if (!since) return {};
    const auto waited = std::chrono::duration_cast<std::chrono::seconds>(Worker::Clock::now() - *since);
    if (waited < kLongCommand) return {};
    return fmt::format("it has not answered for {} s", waited.count());
}

std::string_view state_of(const GroupInfo &group) {
    if (group.refusal.empty()) return "open";
    return group.waits ? "waiting" : "refused";
}

Result<bus::Reply> status(Vtpms &vtpms, const GroupKeys &keys, Store &store, const Worker &worker) {
    VTPM_ASSIGN(const auto groups, keys.list());
    std::size_t count = 0;
    for (const GroupInfo &group : groups) count += group.vtpms;
    const Result<> &state = keys.state();
    return bus::Dictionary{
        {"version", std::string(kVersion)},
        {"state", std::string(state ? "ready" : "refusing")},
        {"reason", state ? std::string() : state.error().text},
        {"sealing", keys.sealing()},
        {"sealed_to", keys.sealer_description()},
        {"sealer_trouble", tpm_trouble(worker)},
        {"lost_group", keys.lost()},
        {"clock_trouble", doubt_of_clock()},
        {"groups_refused", static_cast<std::uint32_t>(std::ranges::count(groups, "refused", state_of))},
        {"groups_waiting", static_cast<std::uint32_t>(std::ranges::count(groups, "waiting", state_of))},
        {"store", store.path()},
        {"store_id", store.id()},
        {"vtpms", static_cast<std::uint32_t>(count)},
        {"vtpms_in_use", static_cast<std::uint32_t>(vtpms.in_use())},
    };
}

// A part of it, behind what `cursor` says, so that no guest waits for all of it. The last row has the next part's.
Result<bus::Reply> list(Vtpms &vtpms, const std::string &cursor) {
    const auto after = from_hex(cursor);
    if (!after) return fail(ErrorCode::kInvalid, "'{}' is no cursor", cursor);
    VTPM_ASSIGN(const auto list, vtpms.list(std::string(after->begin(), after->end())));
    bus::Rows rows;
    for (const VtpmInfo &info : list.vtpms) rows.push_back(describe(info));
    for (const std::string &name : list.damaged)
        rows.push_back(
            {{"uuid", name}, {"reason", "its row in the store is damaged: restore the store from a backup"}});
    if (!list.last.empty()) rows.back()["next"] = to_hex(bytes_of(list.last));
    return rows;
}

Result<bus::Reply> show(Vtpms &vtpms, const std::string &text) {
    VTPM_ASSIGN(const Uuid uuid, uuid_of(text));
    VTPM_ASSIGN(const VtpmInfo info, vtpms.show(uuid));
    return describe(info);
}

Result<bus::Reply> find(Vtpms &vtpms, const std::string &name) {
    VTPM_ASSIGN(const Uuid uuid, vtpms.find(name));
    return uuid.to_string();
}

Result<bus::Reply> set_alias(Vtpms &vtpms, const bus::Arguments &arguments) {
    VTPM_ASSIGN(const Uuid uuid, uuid_of(arguments[0]));
    VTPM_TRY(vtpms.set_alias(uuid, arguments[1]));
    return std::monostate{};
}

Result<LaunchPolicy> launch_policy(const std::string &text) {
    const auto policy = parse_launch_policy(text);
    if (!policy) return fail(ErrorCode::kInvalid, "'{}' is not {}", text, kLaunchPolicies);
    return *policy;
}

Result<bus::Reply> create(Vtpms &vtpms, const bus::Arguments &arguments) {
    const std::string &uuid_text = arguments[0];
    const std::string &version_text = arguments[1];
    const std::string &group = arguments[2];
    const auto uuid = Uuid::parse(uuid_text);
    if (!uuid_text.empty() && !uuid) return tl::make_unexpected(uuid_of(uuid_text).error());
    const auto version = parse_tpm_version(version_text);
    if (!version_text.empty() && !version)
        return fail(ErrorCode::kInvalid, "'{}' is not a TPM version: 2.0 or 1.2", version_text);
    std::optional<PcrBanks> pcr_banks;
    if (!arguments[3].empty()) {
        VTPM_ASSIGN(pcr_banks, PcrBanks::parse(arguments[3]));
    }
    std::optional<LaunchPolicy> launch;
    if (!arguments[4].empty()) {
        VTPM_ASSIGN(launch, launch_policy(arguments[4]));
    }
    VTPM_ASSIGN(const Uuid created,
                vtpms.create(uuid, version, group.empty() ? std::string(kDefaultGroup) : group, pcr_banks, launch));
    return created.to_string();
}

Result<bus::Reply> destroy(Vtpms &vtpms, const std::string &text) {
    VTPM_ASSIGN(const Uuid uuid, uuid_of(text));
    VTPM_TRY(vtpms.destroy(uuid));
    return std::monostate{};
}

Result<bus::Reply> set_launch(Vtpms &vtpms, const bus::Arguments &arguments) {
    VTPM_ASSIGN(const Uuid uuid, uuid_of(arguments[0]));
    VTPM_ASSIGN(const LaunchPolicy launch, launch_policy(arguments[1]));
    VTPM_TRY(vtpms.set_launch(uuid, launch, arguments[2]));
    return std::monostate{};
}

Result<bus::Reply> list_groups(const GroupKeys &keys) {
    VTPM_ASSIGN(const auto infos, keys.list());
    bus::Rows rows;
    for (const GroupInfo &group : infos) {
        rows.push_back({{"group", group.name},
                        {"pcrs", group.pcrs},
                        {"approver", group.approver},
                        {"generation", group.generation},
                        {"policies", static_cast<std::uint32_t>(group.policies)},
                        {"next_policies", static_cast<std::uint32_t>(group.next_policies)},
                        {"launch_approvals", static_cast<std::uint32_t>(group.launch_approvals)},
                        {"sealing", keys.sealing()},
                        {"recovery_key", group.has_recovery_key},
                        {"vtpms", static_cast<std::uint32_t>(group.vtpms)},
                        {"created", utc(group.created)},
                        {"state", std::string(state_of(group))},
                        {"reason", group.refusal}});
    }
    return rows;
}

// PCRs, an approver's public key (PEM), or neither: this TPM only.
Result<KeyPolicy> key_policy(const std::string &group, const std::string &pcrs, const std::string &approver) {
    KeyPolicy policy;
    policy.group = group;
    VTPM_ASSIGN(policy.pcrs, PcrSelection::parse(pcrs));
    if (approver.empty()) return policy;
    if (!pcrs.empty()) return fail(ErrorCode::kInvalid, "an approver's policies say which PCRs: give one or the other");
    VTPM_ASSIGN(policy.approver, ApproverKey::from_pem(approver));
    return policy;
}

// An option of the command line, by its name or not at all.
Result<bool> flag(const std::string &text, std::string_view name) {
    if (!text.empty() && text != name) return fail(ErrorCode::kInvalid, "'{}' is not '{}'", text, name);
    return !text.empty();
}

Result<bus::Reply> reissue(Vtpms &vtpms, const bus::Arguments &arguments) {
    VTPM_ASSIGN(const Uuid uuid, uuid_of(arguments[0]));
    VTPM_ASSIGN(const bool withdraw, flag(arguments[1], "withdraw"));
    VTPM_TRY(vtpms.reissue(uuid, withdraw ? Vtpms::Order::kWithdraw : Vtpms::Order::kGive));
    return std::monostate{};
}

Result<bus::Reply> reissue_group(Vtpms &vtpms, const bus::Arguments &arguments) {
    VTPM_ASSIGN(const bool withdraw, flag(arguments[1], "withdraw"));
    VTPM_ASSIGN(const std::size_t changed,
                vtpms.reissue_group(arguments[0], withdraw ? Vtpms::Order::kWithdraw : Vtpms::Order::kGive));
    return bus::Dictionary{
        {"group", arguments[0]}, {"changed", static_cast<std::uint32_t>(changed)}, {"withdrawn", withdraw}};
}

Result<bus::Reply> create_group(GroupKeys &keys, const bus::Arguments &arguments) {
    VTPM_ASSIGN(const KeyPolicy policy, key_policy(arguments[0], arguments[1], arguments[2]));
    VTPM_TRY(keys.create(policy));
    return std::monostate{};
}

Result<bus::Reply> reseal_group(GroupKeys &keys, const bus::Arguments &arguments) {
    VTPM_ASSIGN(const KeyPolicy policy, key_policy(arguments[0], arguments[1], arguments[2]));
    VTPM_TRY(keys.policy(policy.group));
    VTPM_TRY(keys.reseal(policy));
    return std::monostate{};
}

Result<bus::Reply> open_group(GroupKeys &keys, const std::string &name) {
    VTPM_TRY(keys.open(name));
    return std::monostate{};
}

Result<bus::Reply> renew_group(GroupKeys &keys, const std::string &name) {
    VTPM_TRY(keys.renew(name));
    return std::monostate{};
}

Result<bus::Reply> rekey_group(GroupKeys &keys, Vtpms &vtpms, const bus::Arguments &arguments) {
    VTPM_ASSIGN(const bool new_ca, flag(arguments[1], "new-ca"));
    VTPM_TRY(keys.rekey(arguments[0], new_ca ? GroupKeys::NewCa::kYes : GroupKeys::NewCa::kNo, *vtpms.rotation()));
    return std::monostate{};
}

Result<bus::Reply> accept_rollback(GroupKeys &keys, const std::string &name) {
    VTPM_TRY(keys.accept_rollback(name));
    return std::monostate{};
}

Result<bus::Reply> start_anew(GroupKeys &keys) {
    VTPM_TRY(keys.start_anew());
    return std::monostate{};
}

Result<bus::Reply> audit_log(Store &store) {
    VTPM_ASSIGN(const auto records, store.audit_records());
    bus::Rows rows;
    for (const AuditRecord &record : records)
        rows.push_back({{"number", static_cast<std::uint64_t>(record.number)},
                        {"time", utc(record.time)},
                        {"event", record.event},
                        {"subject", record.subject},
                        {"detail", record.detail},
                        {"chain", to_hex(record.chain)}});
    return rows;
}

Result<bus::Reply> verify_audit_log(Store &store) {
    VTPM_ASSIGN(const auto records, store.audit_records());
    VTPM_TRY(verify_chain(records));
    return std::monostate{};
}

Result<bus::Reply> delete_group(GroupKeys &keys, const std::string &name) {
    VTPM_TRY(keys.remove(name));
    return std::monostate{};
}

Result<bus::Reply> install_policy(BootPolicies &policies, const std::string &document) {
    VTPM_ASSIGN(std::string id, policies.install(document));
    return id;
}

bus::Dictionary describe(const BootPolicyInfo &info) {
    bus::Dictionary row{{"policy", info.record.id},
                        {"group", info.record.group},
                        {"installed", utc(info.record.installed)},
                        {"reason", info.problem}};
    if (!info.approval) return row;
    row["pcrs"] = info.approval->pcrs.to_string();
    row["generation"] = info.approval->generation;
    row["not_after"] = info.approval->not_after ? utc(*info.approval->not_after) : std::string();
    return row;
}

Result<bus::Reply> list_policies(const BootPolicies &policies) {
    VTPM_ASSIGN(const auto infos, policies.list());
    bus::Rows rows;
    for (const BootPolicyInfo &info : infos) rows.push_back(describe(info));
    return rows;
}

Result<bus::Reply> revoke_policy(BootPolicies &policies, const std::string &id) {
    VTPM_TRY(policies.revoke(id));
    return std::monostate{};
}

Result<bus::Reply> install_launches(LaunchApprovals &launches, const std::string &document) {
    VTPM_ASSIGN(std::string id, launches.install(document));
    return id;
}

std::string labels_of(const LaunchTerms &terms) {
    std::string labels;
    for (const ApprovedLaunch &launch : terms.launches) labels += (labels.empty() ? "" : ", ") + launch.label;
    return labels;
}

// Empty: all of the group.
std::string vtpms_of(const LaunchTerms &terms) {
    std::string vtpms;
    for (const Uuid &vtpm : terms.vtpms) vtpms += (vtpms.empty() ? "" : ", ") + vtpm.to_string();
    return vtpms;
}

bus::Dictionary describe(const LaunchApprovalInfo &info) {
    bus::Dictionary row{{"approval", info.record.id},
                        {"group", info.record.group},
                        {"installed", utc(info.record.installed)},
                        {"reason", info.problem}};
    if (!info.terms) return row;
    row["generation"] = info.terms->generation;
    row["vtpms"] = vtpms_of(*info.terms);
    row["launches"] = labels_of(*info.terms);
    return row;
}

Result<bus::Reply> list_launches(const LaunchApprovals &launches) {
    VTPM_ASSIGN(const auto infos, launches.list());
    bus::Rows rows;
    for (const LaunchApprovalInfo &info : infos) rows.push_back(describe(info));
    return rows;
}

Result<bus::Reply> remove_launches(LaunchApprovals &launches, const std::string &id) {
    VTPM_TRY(launches.remove(id));
    return std::monostate{};
}

Result<bus::Reply> discard_group(GroupKeys &keys, const std::string &name) {
    VTPM_TRY(keys.discard(name));
    return std::monostate{};
}

Result<bus::Reply> export_recovery_key(GroupKeys &keys, const bus::Arguments &arguments) {
    VTPM_ASSIGN(const bool replace, flag(arguments[1], "replace"));
    VTPM_ASSIGN(std::string text,
                keys.export_recovery_key(arguments[0], replace ? GroupKeys::Replace::kYes : GroupKeys::Replace::kNo));
    return text;
}

Result<bus::Reply> check_recovery(GroupKeys &keys, const bus::Arguments &arguments) {
    VTPM_ASSIGN(const RecoveryCheck check, keys.check_recovery(arguments[0], arguments[1]));
    bus::Dictionary answer{{"group", arguments[0]}, {"open", check.open}};
    if (check.open) return answer;
    answer["remembered"] = check.remembered;
    answer["difference"] = check.difference;
    answer["new_tpm"] = check.new_tpm;
    answer["sealer"] = check.sealer;
    answer["sealing"] = keys.sealing();
    answer["policy_known"] = check.policy.has_value();
    if (!check.policy) return answer;
    answer["pcrs"] = check.policy->pcrs.to_string();
    answer["generation"] = check.policy->generation;
    answer["approver"] = check.policy->approver ? check.policy->approver->fingerprint() : std::string();
    answer["approver_key"] = std::string();
    if (!check.policy->approver) return answer;
    VTPM_ASSIGN(answer["approver_key"], check.policy->approver->to_pem());
    return answer;
}

// Empty: the one that the group is at.
Result<std::uint32_t> generation_of(const std::string &text) {
    if (text.empty()) return 0;
    const auto number = parse_number(text);
    if (!number || *number == 0) return fail(ErrorCode::kInvalid, "'{}' is no generation", text);
    return *number;
}

Result<bus::Reply> recover_group(GroupKeys &keys, const bus::Arguments &arguments) {
    GroupKeys::RecoveryOrder order;
    VTPM_ASSIGN(order.policy, key_policy(arguments[0], arguments[2], arguments[3]));
    VTPM_ASSIGN(order.policy.generation, generation_of(arguments[4]));
    VTPM_ASSIGN(const bool accept, flag(arguments[5], "accept-rollback"));
    VTPM_ASSIGN(const bool new_tpm, flag(arguments[6], "new-tpm"));
    if (accept) order.accept = GroupKeys::AcceptRollback::kYes;
    if (new_tpm) order.new_tpm = GroupKeys::NewTpm::kYes;
    VTPM_TRY(keys.recover(arguments[1], std::move(order)));
    return std::monostate{};
}

Result<bus::Reply> export_vtpm(Vtpms &vtpms, const std::string &text) {
    VTPM_ASSIGN(const Uuid uuid, uuid_of(text));
    VTPM_ASSIGN(std::string backup, vtpms.export_vtpm(uuid));
    return backup;
}

Result<bus::Reply> import_vtpm(Vtpms &vtpms, const bus::Arguments &arguments) {
    ImportOrder order;
    order.group = arguments[1];
    order.recovery_key = arguments[2];
    order.in_use = arguments[5];
    VTPM_ASSIGN(order.replace, flag(arguments[3], "replace"));
    VTPM_ASSIGN(order.original_is_gone, flag(arguments[4], "original-is-gone"));
    VTPM_ASSIGN(const Uuid uuid, vtpms.import_vtpm(arguments[0], order));
    return uuid.to_string();
}

Result<bus::Reply> show_ca(CertificateAuthorities &authorities, const std::string &group) {
    VTPM_ASSIGN(const CaInfo ca, authorities.show(group));
    return bus::Dictionary{{"group", ca.group},
                           {"subject", ca.subject},
                           {"issuer", ca.issuer},
                           {"self_signed", ca.self_signed},
                           {"fingerprint", ca.fingerprint},
                           {"certificate", ca.certificate}};
}

Result<bus::Reply> request_ca(CertificateAuthorities &authorities, const std::string &group) {
    VTPM_ASSIGN(std::string request, authorities.request(group));
    return request;
}

Result<bus::Reply> import_ca(CertificateAuthorities &authorities, const bus::Arguments &arguments) {
    VTPM_TRY(authorities.import_signed(arguments[0], arguments[1]));
    return std::monostate{};
}

Result<bus::Reply> attest(Attestor &attestor, const bus::Arguments &arguments) {
    VTPM_ASSIGN(const Uuid uuid, uuid_of(arguments[0]));
    VTPM_ASSIGN(Bytes nonce, nonce_from(arguments[1]));
    std::optional<PcrSelection> pcrs;
    if (!arguments[2].empty()) {
        VTPM_ASSIGN(pcrs, PcrSelection::parse(arguments[2]));
    }
    VTPM_ASSIGN(const Attestation attestation,
                attestor.attest(uuid, std::move(nonce), pcrs, Attestor::Asked::kByTheAdministrator));
    return attestation.to_json();
}

Result<bus::Reply> host_identity(Attestor &attestor, const std::string &name) {
    const auto wanted = host_template_named(name);
    if (!wanted && !name.empty()) return fail(ErrorCode::kInvalid, "'{}' is no endorsement key of a host", name);
    VTPM_ASSIGN(const HostIdentity host, attestor.host(wanted));
    return to_json(host);
}

Result<bus::Reply> answer_challenge(Attestor &attestor, const std::string &document) {
    VTPM_ASSIGN(const Credential challenge, parse_credential(document));
    VTPM_ASSIGN(const SecretBytes answer, attestor.answer(challenge));
    return to_hex(answer.view());
}

// Guests write between its steps, which are short.
Result<bus::Reply> back_up(Store &store, Worker &worker) {
    VTPM_TRY(Audit(store).record("store-copied", store.id()));
    VTPM_ASSIGN(std::string copy, store.back_up([&worker] { (void)worker.give_way(); }));
    return copy;
}

}  // namespace

std::vector<bus::Method> manager_methods(const ManagerParts &parts) {
    using bus::Arguments;
    Vtpms &vtpms = parts.vtpms;
    GroupKeys &keys = parts.keys;
    BootPolicies &policies = parts.policies;
    LaunchApprovals &launches = parts.launches;
    CertificateAuthorities &authorities = parts.authorities;
    Attestor &attestor = parts.attestor;
    Store &store = parts.store;
    Worker &worker = parts.worker;
    const bus::Elsewhere elsewhere = [&worker, worked = parts.worked](auto job, auto done) {
        worker.run(std::move(job), [done = std::move(done), worked] {
            done();
            if (worked) worked();
        });
    };
    return {
        {"Status", "", "a{sv}", [&](const Arguments &) { return status(vtpms, keys, store, worker); }},
        {"List", "s", "aa{sv}", [&](const Arguments &a) { return list(vtpms, a[0]); }},
        {"Show", "s", "a{sv}", [&](const Arguments &a) { return show(vtpms, a[0]); }},
        {"Find", "s", "s", [&](const Arguments &a) { return find(vtpms, a[0]); }},
        {"SetAlias", "ss", "", [&](const Arguments &a) { return set_alias(vtpms, a); }},
        {"Create", "sssss", "s", [&](const Arguments &a) { return create(vtpms, a); }},
        {"Destroy", "s", "", [&](const Arguments &a) { return destroy(vtpms, a[0]); }},
        {"Reissue", "ss", "", [&](const Arguments &a) { return reissue(vtpms, a); }},
        {"ReissueGroup", "ss", "a{sv}", [&](const Arguments &a) { return reissue_group(vtpms, a); }},
        {"SetLaunch", "sss", "", [&](const Arguments &a) { return set_launch(vtpms, a); }},
        {"ListGroups", "", "aa{sv}", [&](const Arguments &) { return list_groups(keys); }},
        {"CreateGroup", "sss", "", [&](const Arguments &a) { return create_group(keys, a); }, elsewhere},
        {"OpenGroup", "s", "", [&](const Arguments &a) { return open_group(keys, a[0]); }, elsewhere},
        {"ResealGroup", "sss", "", [&](const Arguments &a) { return reseal_group(keys, a); }, elsewhere},
        {"RenewGroup", "s", "", [&](const Arguments &a) { return renew_group(keys, a[0]); }, elsewhere},
        {"RekeyGroup", "ss", "", [&](const Arguments &a) { return rekey_group(keys, vtpms, a); }, elsewhere},
        {"DeleteGroup", "s", "", [&](const Arguments &a) { return delete_group(keys, a[0]); }, elsewhere},
        {"DiscardGroup", "s", "", [&](const Arguments &a) { return discard_group(keys, a[0]); }, elsewhere},
        {"ExportRecoveryKey", "ss", "s", [&](const Arguments &a) { return export_recovery_key(keys, a); }},
        {"CheckRecovery", "ss", "a{sv}", [&](const Arguments &a) { return check_recovery(keys, a); }, elsewhere},
        {"RecoverGroup", "sssssss", "", [&](const Arguments &a) { return recover_group(keys, a); }, elsewhere},
        {"ExportVtpm", "s", "s", [&](const Arguments &a) { return export_vtpm(vtpms, a[0]); }},
        {"ImportVtpm", "ssssss", "s", [&](const Arguments &a) { return import_vtpm(vtpms, a); }},
        {"AcceptRollback", "s", "", [&](const Arguments &a) { return accept_rollback(keys, a[0]); }, elsewhere},
        {"StartAnew", "", "", [&](const Arguments &) { return start_anew(keys); }, elsewhere},
        {"ShowCa", "s", "a{sv}", [&](const Arguments &a) { return show_ca(authorities, a[0]); }, elsewhere},
        {"RequestCa", "s", "s", [&](const Arguments &a) { return request_ca(authorities, a[0]); }, elsewhere},
        {"ImportCa", "ss", "", [&](const Arguments &a) { return import_ca(authorities, a); }, elsewhere},
        {"Attest", "sss", "s", [&](const Arguments &a) { return attest(attestor, a); }, elsewhere},
        {"HostIdentity", "s", "s", [&](const Arguments &a) { return host_identity(attestor, a[0]); }, elsewhere},
        {"AnswerChallenge", "s", "s", [&](const Arguments &a) { return answer_challenge(attestor, a[0]); }, elsewhere},
        {"AuditLog", "", "aa{sv}", [&](const Arguments &) { return audit_log(store); }},
        {"BackUp", "", "s", [&](const Arguments &) { return back_up(store, worker); }, elsewhere},
        {"VerifyAuditLog", "", "", [&](const Arguments &) { return verify_audit_log(store); }},
        {"InstallPolicy", "s", "s", [&](const Arguments &a) { return install_policy(policies, a[0]); }, elsewhere},
        {"ListPolicies", "", "aa{sv}", [&](const Arguments &) { return list_policies(policies); }},
        {"RevokePolicy", "s", "", [&](const Arguments &a) { return revoke_policy(policies, a[0]); }},
        {"InstallLaunches", "s", "s", [&](const Arguments &a) { return install_launches(launches, a[0]); }},
        {"ListLaunches", "", "aa{sv}", [&](const Arguments &) { return list_launches(launches); }},
        {"RemoveLaunches", "s", "", [&](const Arguments &a) { return remove_launches(launches, a[0]); }},
    };
}

}  // namespace vtpm
