// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/vtpms.hpp"

#include <algorithm>
#include <ctime>

#include "base/legible.hpp"
#include "base/log.hpp"
#include "manager/boot/launch_release.hpp"
#include "manager/ca/endorsement.hpp"
#include "manager/crypto/encoding.hpp"
#include "manager/groups/audit.hpp"
#include "manager/groups/recovery_key.hpp"
#include "manager/vtpm/key_rotation.hpp"
#include "manager/vtpm/power_on.hpp"
#include "manager/vtpm/stored_state.hpp"

namespace vtpm {
namespace {

Result<SecretBytes> opened_backup(const Key &group_key, const Backup &backup, std::string_view recovery_text) {
    if (recovery_text.empty()) {
        auto state = open_backup(group_key, backup);
        if (!state && state.error().code == ErrorCode::kRefused)
            state.error().text +=
                "; if the group got another key since (xen-vtpm group rekey), the recovery key opens it that the "
                "group had then: --recovery-key";
        return state;
    }
    if (backup.header.wrapped_group_key.empty())
        return fail(ErrorCode::kRefused, "no recovery key opens this backup: group '{}' had none when it was made",
                    backup.header.group);
    VTPM_ASSIGN(const Key recovery_key, recovery_key_from(recovery_text));
    VTPM_ASSIGN(const Key original,
                unwrap_for_recovery(recovery_key, backup.header.group, backup.header.wrapped_group_key));
    return open_backup(original, backup);
}

}  // namespace

Result<TpmVersion> Vtpms::prepare(const Uuid &uuid, Beginning beginning, ByteView launch) {
    VTPM_TRY(keys_.state());
    VTPM_ASSIGN(const auto known, services_.store.find_vtpm(uuid));
    const bool resumes = beginning == Beginning::kResume;
    if (!known && resumes)
        return fail(ErrorCode::kNotFound,
                    "vTPM {} is not here, and its guest was not started here: bring the vTPM first (xen-vtpm export, "
                    "import), and then start the guest",
                    uuid.to_string());
    if (!known && creation_.auto_create) VTPM_TRY(create_unknown(uuid));
    VTPM_ASSIGN(const Verified verified, verify(uuid));
    if (resumes) return verified.record.version;
    VTPM_TRY(admit(verified.record, launch));
    VTPM_TRY(end_volatile_state(verified.record));
    return verified.record.version;
}

// What its power-on would refuse is refused here: then whoever starts the guest hears it.
Result<> Vtpms::admit(const VtpmRecord &vtpm, ByteView launch) {
    auto admitted = services_.approvals.require_approved(vtpm, launch);
    if (admitted) {
        const auto events = power_on_events(vtpm, services_.host_pcrs.blank(), launch);
        if (!events) admitted = tl::make_unexpected(events.error());
    }
    if (admitted)
        refused_launches_.erase(vtpm.uuid);
    else
        remember_refusal(vtpm.uuid, admitted.error().text);
    return admitted;
}

// In the audit log once, however often its guest is started.
void Vtpms::remember_refusal(const Uuid &uuid, const std::string &reason) {
    refusals_.insert_or_assign(uuid, reason);
    std::string &recorded = refused_launches_[uuid];
    if (recorded == reason) return;
    recorded = reason;
    if (const auto written = Audit(services_.store).record("launch-refused", uuid.to_string(), reason); !written)
        log::error("vTPM {}: the audit log has no word of that: {}", uuid.to_string(), written.error().text);
}

// Even if the guest that is started now never asks for its TPM: it may be saved in its turn, and restored.
Result<> Vtpms::end_volatile_state(const VtpmRecord &vtpm) {
    if (channels_.contains(vtpm.uuid) || vtpm.volatile_tag.empty()) return {};
    log::info("vTPM {}: its guest was saved and is started anew", vtpm.uuid.to_string());
    return services_.inventory.end_volatile_state(vtpm);
}

// What a refused group has can be told by nobody: its rows may have been removed from the store.
Result<> Vtpms::create_unknown(const Uuid &uuid) {
    if (const auto open = keys_.all_open(); !open)
        return fail(open.error().code,
                    "vTPM {} is unknown, and {}, so it may be one of its: if it is new: xen-vtpm create {}",
                    uuid.to_string(), open.error().text, uuid.to_string());
    VTPM_TRY(create(uuid, std::nullopt));
    return {};
}

Result<OpenedVtpm> Vtpms::open(const Uuid &uuid, ByteView launch, std::string_view guest) {
    if (channels_.contains(uuid)) return fail(ErrorCode::kInUse, "vTPM {} runs already", uuid.to_string());
    VTPM_ASSIGN(Verified verified, verify(uuid));
    const TpmVersion version = verified.record.version;
    auto channel = std::make_unique<StateChannel>(services_, std::move(verified.record), std::move(verified.key),
                                                  launch, legible(std::string(guest.substr(0, kMaxGuestName))),
                                                  [this, uuid] { channels_.erase(uuid); });
    VTPM_ASSIGN(UniqueFd engine_end, channel->start());
    channels_.emplace(uuid, std::move(channel));
    return OpenedVtpm{version, std::move(engine_end)};
}

Result<Uuid> Vtpms::create(std::optional<Uuid> wanted, std::optional<TpmVersion> version, const std::string &group,
                           const std::optional<PcrBanks> &pcr_banks, std::optional<LaunchPolicy> launch) {
    VtpmRecord record;
    record.uuid = wanted.value_or(Uuid::random());
    record.version = version.value_or(creation_.default_tpm);
    VTPM_ASSIGN(record.profile, profile_of(record.version, pcr_banks));
    record.group = group;
    record.created = std::time(nullptr);
    VTPM_TRY(keys_.state());
    if (!keys_.has(group)) return fail(ErrorCode::kNotFound, "there is no group '{}'", group);
    VTPM_ASSIGN(const Key *group_key, keys_.key(group));
    VTPM_TRY(bind_launch(record, launch.value_or(creation_.launch)));
    VTPM_ASSIGN(const auto existing, services_.store.find_vtpm(record.uuid));
    if (existing) return fail(ErrorCode::kInUse, "vTPM {} exists already", record.uuid.to_string());
    VTPM_ASSIGN(const Key key, random_key());
    VTPM_TRY(wrap_key_of(record, *group_key, key));
    VTPM_TRY(services_.inventory.insert(record));
    log::info("vTPM {} created: TPM {}, group '{}'", record.uuid.to_string(), to_string(record.version), group);
    return record.uuid;
}

Result<TpmProfile> Vtpms::profile_of(TpmVersion version, const std::optional<PcrBanks> &pcr_banks) const {
    if (version == TpmVersion::k12) {
        if (pcr_banks) return fail(ErrorCode::kInvalid, "a TPM 1.2 has one PCR bank, of SHA-1");
        return TpmProfile{.pcr_banks = {}, .algorithms = {}};
    }
    TpmProfile profile = creation_.profile;
    if (pcr_banks) profile.pcr_banks = *pcr_banks;
    if (profile.pcr_banks.empty()) return fail(ErrorCode::kInvalid, "a TPM 2.0 has at least one PCR bank");
    return profile;
}

// What a damaged row left: no group's manifest knows of it.
Result<> Vtpms::destroy_remains(const Uuid &uuid) {
    VTPM_TRY(services_.store.commit([&](Change &change) {
        change.add(DeleteOrphanedStates{uuid});
        return Audit(services_.store).record(change, "vtpm-remains-destroyed", uuid.to_string());
    }));
    log::warning("vTPM {}: the state that was left of it is destroyed", uuid.to_string());
    return {};
}

Result<> Vtpms::destroy(const Uuid &uuid) {
    VTPM_ASSIGN(const auto record, services_.store.find_vtpm(uuid));
    if (!record) return destroy_remains(uuid);
    if (channels_.contains(uuid))
        return fail(ErrorCode::kInUse, "vTPM {} is in use: shut its guest down first", uuid.to_string());
    VTPM_TRY(services_.inventory.remove(*record));
    refusals_.erase(uuid);
    refused_launches_.erase(uuid);
    services_.reissues.forget(uuid);
    log::info("vTPM {} destroyed", uuid.to_string());
    return {};
}

namespace {

// Of what has certificates, and is not ordered so already.
Result<bool> order_in(VtpmRecord &vtpm, Vtpms::Order order) {
    VTPM_ASSIGN(Endorsement endorsement, decode_endorsement(vtpm.endorsement));
    const bool reissue = order == Vtpms::Order::kGive;
    if (endorsement.keys.empty() || endorsement.reissue == reissue) return false;
    endorsement.reissue = reissue;
    vtpm.endorsement = encode_endorsement(endorsement);
    return true;
}

std::string_view event_of(Vtpms::Order order) {
    return order == Vtpms::Order::kGive ? "reissue-ordered" : "reissue-withdrawn";
}

tl::unexpected<Error> nothing_signs() {
    return fail(ErrorCode::kWrongState, "with sealing = \"file\" nothing signs certificates");
}

}  // namespace

Result<> Vtpms::reissue(const Uuid &uuid, Order order) {
    VTPM_ASSIGN(VtpmRecord record, find(uuid));
    VTPM_TRY(services_.inventory.verify(record));
    VTPM_ASSIGN(const Endorsement endorsement, decode_endorsement(record.endorsement));
    if (endorsement.keys.empty())
        return fail(ErrorCode::kWrongState,
                    "vTPM {} has no certificates: it is a TPM 1.2, did not run yet, or was made without any, and what "
                    "its keys are cannot be told any more",
                    uuid.to_string());
    if (order == Order::kGive && keys_.sealing() == "file") return nothing_signs();
    if (const auto channel = channels_.find(uuid); channel != channels_.end() && channel->second->is_issuing())
        return fail(ErrorCode::kInUse, "vTPM {} gets its certificates just now: say it again when its guest runs",
                    uuid.to_string());
    services_.reissues.forget(uuid);
    VTPM_ASSIGN(const bool changed, order_in(record, order));
    if (!changed) return {};
    VTPM_TRY(services_.inventory.update(record.group, {&record, 1}, event_of(order), uuid.to_string(), {}));
    log::info("vTPM {}: its certificates {}", uuid.to_string(),
              order == Order::kGive ? "are issued again at its next power-on" : "stay, the order is withdrawn");
    return {};
}

// To the approver whom the group's manifest has: the row of the group is no witness.
Result<> Vtpms::bind_launch(VtpmRecord &vtpm, LaunchPolicy launch) const {
    vtpm.launch = launch;
    vtpm.launch_approver.clear();
    vtpm.launch_binding.clear();
    if (launch != LaunchPolicy::kRequireApproved) return {};
    VTPM_ASSIGN(const Terms group, services_.inventory.terms(vtpm.group));
    if (group.approver.empty())
        return fail(ErrorCode::kInvalid,
                    "group '{}' has no approver who could sign launches: xen-vtpm group seal --approver, or another "
                    "group",
                    vtpm.group);
    vtpm.launch_approver = group.approver;
    vtpm.launch_binding.resize(kLaunchBinding);
    return random_bytes(vtpm.launch_binding);
}

namespace {

// Whether a vTPM that asks for approved launches may ask for something else.
Result<> require_released(const VtpmRecord &vtpm, std::string_view release) {
    VTPM_ASSIGN(const ApproverKey approver, ApproverKey::from_public_area(vtpm.launch_approver));
    const std::string uuid = vtpm.uuid.to_string();
    if (release.empty())
        return fail(ErrorCode::kRefused,
                    "vTPM {} is for launches that {} signed, and stays so without his word: he signs it with xen-vtpm "
                    "launch release --key KEY --binding {} {}, and launch set --release FILE takes it",
                    uuid, approver.fingerprint(), to_hex(vtpm.launch_binding), uuid);
    VTPM_ASSIGN(const LaunchRelease signed_release, LaunchRelease::parse(release));
    return signed_release.verify(approver, vtpm.uuid, vtpm.launch_binding);
}

std::string describe_launch(const VtpmRecord &vtpm) {
    std::string text(to_string(vtpm.launch));
    const auto approver = ApproverKey::from_public_area(vtpm.launch_approver);
    return approver ? fmt::format("{}, by {}", text, approver->fingerprint()) : text;
}

}  // namespace

Result<> Vtpms::set_launch(const Uuid &uuid, LaunchPolicy launch, std::string_view release) {
    VTPM_ASSIGN(VtpmRecord record, find(uuid));
    VTPM_TRY(services_.inventory.verify(record));
    const bool bound = record.launch == LaunchPolicy::kRequireApproved;
    if (!bound && !release.empty())
        return fail(ErrorCode::kInvalid, "vTPM {} is bound to no approver: it needs no release", uuid.to_string());
    const VtpmRecord former = record;
    VTPM_TRY(bind_launch(record, launch));
    // Said again, it stays bound as it is.
    if (bound && release.empty() && record.launch_approver == former.launch_approver) return {};
    if (bound) VTPM_TRY(require_released(former, release));
    VTPM_ASSIGN(const Key *group_key, keys_.key(record.group));
    VTPM_ASSIGN(const Key key, key_of(*group_key, former));
    VTPM_TRY(wrap_key_of(record, *group_key, key));
    const std::string detail = describe_launch(record) + (bound ? ", released by its approver" : "");
    VTPM_TRY(services_.inventory.update(record.group, {&record, 1}, "launch-policy-set", uuid.to_string(), detail));
    if (const auto channel = channels_.find(uuid); channel != channels_.end()) channel->second->set_launch(record);
    refusals_.erase(uuid);
    log::info("vTPM {}: launch = {}", uuid.to_string(), detail);
    return {};
}

namespace {

// It is typed in the place of a UUID, or of a domain's number.
Result<> require_alias(const std::string &alias) {
    const auto is_alphanumeric = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    };
    const auto is_allowed = [&](char c) { return is_alphanumeric(c) || c == '-' || c == '.' || c == '_'; };
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    if (alias.size() <= kMaxAlias && is_alphanumeric(alias.front()) && std::ranges::all_of(alias, is_allowed) &&
        !std::ranges::all_of(alias, is_digit) && !Uuid::parse(alias))
        return {};
    return fail(ErrorCode::kInvalid,
                "'{}' is no alias: at most {} of a-z, A-Z, 0-9, '-', '.' and '_', a letter or digit first; no number, "
                "no UUID",
                alias, kMaxAlias);
}

std::string uuids_of(const std::vector<VtpmRecord> &vtpms) {
    constexpr std::size_t kMost = 8;
    std::string text;
    for (std::size_t i = 0; i < std::min(vtpms.size(), kMost); ++i)
        text += (i == 0 ? "" : ", ") + vtpms[i].uuid.to_string();
    return vtpms.size() > kMost ? text + ", ..." : text;
}

}  // namespace

Result<> Vtpms::set_alias(const Uuid &uuid, const std::string &alias) {
    if (!alias.empty()) VTPM_TRY(require_alias(alias));
    VTPM_ASSIGN(VtpmRecord record, find(uuid));
    VTPM_TRY(services_.inventory.verify(record));
    if (record.alias == alias) return {};
    if (!alias.empty()) {
        VTPM_ASSIGN(const auto named, services_.store.vtpms_named(alias));
        for (const VtpmRecord &other : named)
            if (other.alias == alias)
                return fail(ErrorCode::kInUse, "'{}' is the alias of vTPM {}", alias, other.uuid.to_string());
    }
    record.alias = alias;
    VTPM_TRY(services_.inventory.update(record.group, {&record, 1}, "alias-set", uuid.to_string(), alias));
    if (const auto channel = channels_.find(uuid); channel != channels_.end()) channel->second->set_alias(alias);
    return {};
}

Result<Uuid> Vtpms::find(const std::string &name) {
    std::vector<VtpmRecord> named;
    if (!name.empty()) {
        VTPM_ASSIGN(named, services_.store.vtpms_named(name));
    }
    std::vector<VtpmRecord> aliased;
    for (const VtpmRecord &vtpm : named) {
        if (!keys_.key(vtpm.group)) continue;  // nobody vouches for what a locked group's row says
        VTPM_TRY(services_.inventory.verify(vtpm));
        if (vtpm.alias == name) aliased.push_back(vtpm);
    }
    const std::vector<VtpmRecord> &meant = aliased.empty() ? named : aliased;
    if (meant.empty())
        return fail(ErrorCode::kNotFound, "no vTPM has the alias '{0}', and no guest of that name has used one", name);
    // An alias is another's too in a store that somebody changed, and that was taken as it is.
    if (meant.size() > 1)
        return fail(ErrorCode::kInvalid,
                    "{} vTPMs have the alias '{}', or were last used by guests of that name: say "
                    "which: {}",
                    meant.size(), name, uuids_of(meant));
    return meant.front().uuid;
}

// One whose certificates are just being issued gets the order with them.
Result<std::size_t> Vtpms::reissue_group(const std::string &group, Order order) {
    VTPM_TRY(keys_.state());
    if (!keys_.has(group)) return fail(ErrorCode::kNotFound, "there is no group '{}'", group);
    VTPM_TRY(keys_.key(group));
    if (order == Order::kGive && keys_.sealing() == "file") return nothing_signs();
    VTPM_ASSIGN(auto rows, services_.store.vtpms_of(group));
    std::vector<VtpmRecord> ordered;
    for (VtpmRecord &row : rows) {
        VTPM_TRY(services_.inventory.verify(row));
        const auto channel = channels_.find(row.uuid);
        if (order == Order::kGive && channel != channels_.end()) channel->second->issue_again();
        services_.reissues.forget(row.uuid);
        VTPM_ASSIGN(const bool changed, order_in(row, order));
        if (changed) ordered.push_back(std::move(row));
    }
    if (ordered.empty()) return ordered.size();
    VTPM_TRY(services_.inventory.update(group, ordered, event_of(order), "group " + group,
                                        fmt::format("{} vTPMs", ordered.size())));
    log::info(
        "group '{}': the certificates of {} vTPMs {}", group, ordered.size(),
        order == Order::kGive ? "are issued again, at the next power-on of each" : "stay, the order is withdrawn");
    return ordered.size();
}

std::unique_ptr<VtpmKeys> Vtpms::rotation() {
    const auto find_channel = [this](const Uuid &vtpm) {
        const auto found = channels_.find(vtpm);
        return found == channels_.end() ? nullptr : found->second.get();
    };
    return std::make_unique<KeyRotation>(services_.store, find_channel);
}

Result<std::string> Vtpms::export_vtpm(const Uuid &uuid) {
    VTPM_ASSIGN(const VtpmRecord record, find(uuid));
    VTPM_ASSIGN(const Key *group_key, keys_.key(record.group));
    VTPM_ASSIGN(const Key key, key_of(*group_key, record));
    const auto state = open_stored_state(services_.store, record, key, StateKind::kPermanent);
    if (!state && state.error().code == ErrorCode::kNotFound)
        return fail(ErrorCode::kWrongState, "vTPM {} has no state yet: it never ran", uuid.to_string());
    if (!state) return tl::make_unexpected(state.error());
    VTPM_ASSIGN(GroupRecord group, keys_.record(record.group));
    VTPM_ASSIGN(std::string backup, make_backup(*group_key,
                                                {uuid, record.version, record.profile, record.group,
                                                 services_.store.id(), std::time(nullptr), record.endorsement,
                                                 std::move(group.recovery), record.launch, record.launch_approver},
                                                state->view()));
    VTPM_TRY(Audit(services_.store).record("vtpm-exported", uuid.to_string(), "group " + record.group));
    return backup;
}

namespace {

// What an imported vTPM asks of launches: what the backup says. But who may put a backup back is not who may release a
// vTPM that is here, and is bound to an approver: that stays.
Result<> take_launch(VtpmRecord &vtpm, const BackupHeader &backup, const std::optional<VtpmRecord> &former) {
    if (former && former->launch == LaunchPolicy::kRequireApproved) {
        vtpm.launch = former->launch;
        vtpm.launch_approver = former->launch_approver;
        vtpm.launch_binding = former->launch_binding;
        return {};
    }
    vtpm.launch = backup.launch;
    vtpm.launch_approver = backup.launch_approver;
    if (vtpm.launch != LaunchPolicy::kRequireApproved) return {};
    VTPM_TRY(ApproverKey::from_public_area(vtpm.launch_approver));
    vtpm.launch_binding.resize(kLaunchBinding);
    return random_bytes(vtpm.launch_binding);
}

// A name that it lost could be that of another one's guest, and mean that from then on.
void take_names(VtpmRecord &vtpm, const VtpmRecord &former) {
    vtpm.alias = former.alias;
    vtpm.guest = former.guest;
    vtpm.last_used = former.last_used;
}

}  // namespace

Result<Uuid> Vtpms::import_vtpm(std::string_view text, const ImportOrder &order) {
    VTPM_ASSIGN(const Backup backup, parse_backup(text));
    const std::string &group = order.group.empty() ? backup.header.group : order.group;
    VTPM_TRY(keys_.state());
    if (!keys_.has(group))
        return fail(ErrorCode::kNotFound, "there is no group '{}' here: create it, or name another with --group",
                    group);
    VTPM_ASSIGN(const Key *group_key, keys_.key(group));
    VTPM_ASSIGN(const auto former, replaced_by(backup, group, order));
    VTPM_ASSIGN(const SecretBytes state, opened_backup(*group_key, backup, order.recovery_key));

    VtpmRecord record;
    record.uuid = backup.header.uuid;
    record.version = backup.header.version;
    record.profile = backup.header.profile;
    record.group = group;
    VTPM_TRY(take_launch(record, backup.header, former));
    if (former) take_names(record, *former);
    record.created = std::time(nullptr);
    const VtpmIdentity identity{record.uuid, record.version, record.group};
    VTPM_ASSIGN(const Key key, random_key());
    VTPM_TRY(wrap_key_of(record, *group_key, key));
    VTPM_ASSIGN(Bytes envelope, seal_state(key, identity, StateKind::kPermanent, 1, state.view()));
    const StateWrite write{
        record.uuid, group, StateKind::kPermanent, 1, std::move(envelope), backup.header.endorsement};
    VTPM_TRY(services_.inventory.restore(
        record, write, former,
        fmt::format("TPM {}, group {}, as of {}{}, launch {}", to_string(record.version), group,
                    to_utc(backup.header.time), former ? ", in the place of the one that was here" : "",
                    describe_launch(record))));
    refusals_.erase(record.uuid);
    log::warning("vTPM {} imported into group '{}', as it was at {}", record.uuid.to_string(), group,
                 to_utc(backup.header.time));
    return record.uuid;
}

// Nothing, if there is none here; kInUse if the backup would make a second one.
Result<std::optional<VtpmRecord>> Vtpms::replaced_by(const Backup &backup, const std::string &group,
                                                     const ImportOrder &order) {
    const std::string uuid = backup.header.uuid.to_string();
    if (channels_.contains(backup.header.uuid) || order.in_use.find(uuid) != std::string::npos)
        return fail(ErrorCode::kInUse, "vTPM {} is in use: shut its guest down first", uuid);
    if (backup.header.store_id != services_.store.id() && !order.original_is_gone)
        return fail(
            ErrorCode::kInUse,
            "vTPM {} is of another store ({}): two of it must never run; if the other is destroyed or lost, say "
            "so: --confirm-original-destroyed",
            uuid, backup.header.store_id);
    VTPM_ASSIGN(auto former, services_.store.find_vtpm(backup.header.uuid));
    if (former && !order.replace)
        return fail(ErrorCode::kInUse, "vTPM {} exists: --replace makes it go back to what it was at {}", uuid,
                    to_utc(backup.header.time));
    if (former && former->group != group)
        return fail(ErrorCode::kInUse, "vTPM {0} exists in group '{1}': delete it first: xen-vtpm delete {0}", uuid,
                    former->group);
    if (former) VTPM_TRY(services_.inventory.verify(*former));
    return former;
}

Result<VtpmInfo> Vtpms::show(const Uuid &uuid) {
    VTPM_ASSIGN(VtpmRecord record, find(uuid));
    return info(std::move(record));
}

Result<VtpmList> Vtpms::list(std::string_view after) {
    VTPM_ASSIGN(auto listed, services_.store.vtpms(after));
    VtpmList list;
    list.vtpms.reserve(listed.vtpms.size());
    for (VtpmRecord &record : listed.vtpms) list.vtpms.push_back(info(std::move(record)));
    list.damaged = std::move(listed.damaged);
    list.last = std::move(listed.last);
    return list;
}

Result<Vtpms::Verified> Vtpms::verify(const Uuid &uuid) {
    VTPM_ASSIGN(VtpmRecord record, find(uuid));
    auto verified = verify(std::move(record));
    if (verified)
        refusals_.erase(uuid);
    else
        refusals_.insert_or_assign(uuid, verified.error().text);
    return verified;
}

Result<Vtpms::Verified> Vtpms::verify(VtpmRecord record) {
    VTPM_ASSIGN(const Key *group_key, keys_.key(record.group));
    VTPM_ASSIGN(Key key, key_of(*group_key, record));
    const auto state = open_stored_state(services_.store, record, key, StateKind::kPermanent);
    if (!state && state.error().code != ErrorCode::kNotFound) return tl::make_unexpected(state.error());
    VTPM_TRY(services_.inventory.verify(record));
    return Verified{std::move(record), std::move(key)};
}

Result<VtpmRecord> Vtpms::find(const Uuid &uuid) {
    VTPM_ASSIGN(auto record, services_.store.find_vtpm(uuid));
    if (record) return std::move(*record);
    return fail(ErrorCode::kNotFound, "vTPM {} is unknown: xen-vtpm create {}", uuid.to_string(), uuid.to_string());
}

VtpmInfo Vtpms::info(VtpmRecord record) const {
    const auto refusal = refusals_.find(record.uuid);
    const bool in_use = channels_.contains(record.uuid);
    return {std::move(record), in_use, refusal == refusals_.end() ? std::string() : refusal->second};
}

}  // namespace vtpm
