// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/group_keys.hpp"

#include <algorithm>
#include <ctime>
#include <utility>

#include "base/log.hpp"
#include "manager/boot/launch_approval.hpp"
#include "manager/groups/drafts.hpp"

namespace vtpm {
namespace {

// It is typed on command lines, and stands in file names and envelopes.
Result<> require_name(std::string_view name) {
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
    };
    if (!name.empty() && name.size() <= 64 && name.front() != '-' && name.front() != '.' &&
        std::ranges::all_of(name, allowed))
        return {};
    return fail(ErrorCode::kInvalid,
                "'{}' is no name for a group: at most 64 of a-z, 0-9, '-' and '.', a letter or digit first", name);
}

GroupRecord new_record(const std::string &name) {
    GroupRecord record;
    record.name = name;
    record.created = std::time(nullptr);
    return record;
}

// What the group stands and falls with is told while there is time, at each start.
void tell_without_recovery_key(const GroupRecord &group) {
    if (!group.recovery.empty()) return;
    log::warning(
        "group '{0}' has no recovery key: once {1}its hardware TPM is gone, its vTPMs are lost for good: "
        "xen-vtpm group recovery-key {0}",
        group.name, group.pcrs.empty() ? "" : fmt::format("an update changes the PCRs {} or ", group.pcrs));
}

std::size_t count_policies(const std::vector<PolicyRecord> &policies, const std::string &group,
                           std::uint32_t generation) {
    return static_cast<std::size_t>(std::ranges::count_if(policies, [&](const PolicyRecord &record) {
        const auto policy = BootPolicy::parse(record.document);
        return record.group == group && policy && policy->approval().generation == generation;
    }));
}

tl::unexpected<Error> not_complete(const Error &error) {
    return fail(error.code, "it is not complete: {}; create it again", error.text);
}

// Whether the same attempt has the same answer until somebody changes something.
bool is_final(const Error &error) { return error.code == ErrorCode::kRefused || error.code == ErrorCode::kInvalid; }

}  // namespace

Result<> GroupKeys::unlock() { return attempt(false); }

// Guests of the groups that are open do not hear of an attempt at the others.
Result<> GroupKeys::attempt(bool may_start_anew) {
    const auto tried = try_unlock(may_start_anew);
    cut_short_ = !tried && !is_final(tried.error());
    const auto is_open = [](const auto &entry) { return entry.second.has_value(); };
    state_ = std::ranges::any_of(groups_, is_open) ? Result<>() : tried;
    return state_;
}

bool GroupKeys::waits() const {
    return cut_short_ || std::ranges::any_of(groups_, [](const auto &entry) {
               return !entry.second && entry.second.error().code == ErrorCode::kUnavailable;
           });
}

Result<> GroupKeys::start_anew() {
    VTPM_ASSIGN(const auto pin, store_.pin());
    // Not new, but not begun either, if an attempt before this one ended in between.
    if (pin && (state_ || state_.error().code == ErrorCode::kRefused))
        return fail(ErrorCode::kInvalid, "this store is not new");
    return attempt(true);
}

Result<const OpenGroup *> GroupKeys::open_group_named(const std::string &name) const {
    VTPM_TRY(state_);
    const auto found = groups_.find(name);
    if (found == groups_.end() && cut_short_)
        return fail(ErrorCode::kUnavailable, "group '{}' was not tried yet, if it is one", name);
    if (found == groups_.end()) return fail(ErrorCode::kRefused, "the inventory has no group '{}'", name);
    if (!found->second) return fail(found->second.error().code, "group '{}': {}", name, found->second.error().text);
    return &*found->second;
}

Result<> GroupKeys::all_open() const {
    VTPM_TRY(state_);
    for (const auto &[name, group] : groups_)
        if (!group && group.error().code == ErrorCode::kUnavailable)
            return fail(ErrorCode::kUnavailable, "group '{}' does not open yet", name);
        else if (!group)
            return fail(ErrorCode::kRefused, "group '{}' is refused", name);
    if (!lost().empty()) return fail(ErrorCode::kRefused, "{}", lost());
    if (!all_tried_)
        return fail(ErrorCode::kUnavailable,
                    "not all groups were tried yet, since the attempt was cut short: xen-vtpm group open {}",
                    kDefaultGroup);
    return {};
}

std::string GroupKeys::lost() const {
    if (const auto found = stranger()) return text_of(*found);
    if (!lost_) return {};
    return fmt::format(
        "the hardware TPM keeps the epoch of a group that the store does not have (NV index {0:#x}): the group was "
        "removed from the store, or the store is from before it (restore the present one), or it was deleted while "
        "the TPM did not answer; if it is gone for good: tpm2_nvundefine -C o {0:#x}, and then xen-vtpm group open "
        "{1}",
        *lost_, kDefaultGroup);
}

Result<const Key *> GroupKeys::key(const std::string &group) const {
    VTPM_ASSIGN(const OpenGroup *open, open_group_named(group));
    return &open->key;
}

Result<Manifest *> GroupKeys::manifest(const std::string &group) {
    VTPM_TRY(open_group_named(group));
    return &groups_.find(group)->second->manifest;
}

Result<> GroupKeys::try_unlock(bool may_start_anew) {
    VTPM_ASSIGN(const auto pin, store_.pin());
    if (pin) VTPM_TRY(require_sealing(*pin));
    VTPM_ASSIGN(const auto sealer, open_sealer_(pin ? ByteView(pin->identity) : ByteView()));
    sealer_description_ = sealer->description();
    return pin ? unseal_groups(*sealer) : first_start(*sealer, may_start_anew);
}

// The pin and the sealed key go into the store together: without the one the other is worth nothing.
Result<> GroupKeys::first_start(Sealer &sealer, bool may_start_anew) {
    VTPM_ASSIGN(const auto used, sealer.used_indices());
    if (!used.empty() && !may_start_anew)
        return fail(ErrorCode::kRefused,
                    "the store is new, but the hardware TPM remembers one (NV index {:#x}): restore it from a backup; "
                    "if it is lost for good: xen-vtpm store reset",
                    used.front());
    VTPM_ASSIGN(Key key, random_key());
    VTPM_ASSIGN(const std::uint32_t index, new_index(store_, sealer));
    const KeyPolicy policy{std::string(kDefaultGroup), default_pcrs_, {}, 1, index};
    GroupRecord record = new_record(policy.group);
    VTPM_TRY(seal_into(sealer, key, policy, Sealer::Opens::kUntilAdvance, record));
    VTPM_ASSIGN(const Bytes id, random_group_id());
    VTPM_ASSIGN(OpenGroup group,
                new_group(store_, sealer, record, std::move(key), id, GroupList{1, {{record.name, id}}}));
    const ByteView identity = sealer.identity();
    VTPM_TRY(store_.commit([&](Change &change) {
        change.add(SetPin{{sealing_, Bytes(identity.begin(), identity.end())}});
        change.add(InsertGroup{record});
        return audit_.record(change, "store-begun", store_.id(),
                             used.empty() ? "" : "in the place of one that is lost");
    }));
    VTPM_TRY(begin(sealer, record, group));
    groups_.insert_or_assign(record.name, std::move(group));
    all_tried_ = true;
    tell_without_recovery_key(record);
    for (const std::uint32_t former : used)  // of the store that is lost, says the administrator
        if (const auto removed = sealer.remove_epoch(former); !removed)
            log::warning("NV index {:#x} of the hardware TPM is left: {}", former, removed.error().text);
    return {};
}

// One group's refusal is no other group's, and neither is its waiting.
Result<> GroupKeys::unseal_groups(Sealer &sealer) {
    VTPM_ASSIGN(const auto records, store_.groups());
    if (records.empty()) return fail(ErrorCode::kRefused, "store: the inventory has no group: it is damaged");
    for (const GroupRecord &record : records) {
        if (const auto before = groups_.find(record.name); before != groups_.end() && before->second) continue;
        VTPM_TRY(settle(record.name, unseal(sealer, record).and_then([&](Key key) {
            return open_or_begin(sealer, record, std::move(key));
        })));
        if (groups_.at(record.name)) tell_without_recovery_key(record);
    }
    VTPM_TRY(look_for_lost(sealer));
    VTPM_TRY(settle_groups());
    all_tried_ = true;
    const Error *reason = nullptr;
    for (const auto &[name, group] : groups_) {
        if (group) return {};
        if (reason == nullptr || is_final(*reason)) reason = &group.error();
    }
    return tl::make_unexpected(*reason);
}

// Who has the disk can remove a group with all its rows: no manifest is left then that would miss them. What the TPM
// keeps of it tells.
Result<> GroupKeys::look_for_lost(Sealer &sealer) {
    VTPM_ASSIGN(const auto used, sealer.used_indices());
    VTPM_ASSIGN(const auto records, store_.groups());
    remove_former_epochs(sealer, used);
    const auto is_lost = [&](std::uint32_t index) {
        return std::ranges::none_of(records, [&](const GroupRecord &group) {
            return index == group.nv_index || index == sealer.other_index(group.nv_index);
        });
    };
    const auto found = std::ranges::find_if(used, is_lost);
    const auto before = std::exchange(lost_, found == used.end() ? std::nullopt : std::optional(*found));
    if (!lost_ || lost_ == before) return {};
    log::error("{}; until then no vTPM is created that nobody knows", lost());
    return audit_.record("group-lost", fmt::format("NV index {:#x}", *lost_));
}

// What became of an attempt at a group; told when it is not what came of the last one.
Result<> GroupKeys::settle(const std::string &name, Result<OpenGroup> group) {
    if (group) incomplete_.erase(name);
    if (incomplete_.contains(name)) group = not_complete(group.error());
    const auto before = groups_.find(name);
    const bool is_new = before == groups_.end();
    if (group) {
        VTPM_TRY(audit_.record("group-opened", name));
        if (!is_new) log::info("group '{}' is open", name);
    } else if (is_new || before->second.error().text != group.error().text) {
        if (is_final(group.error())) VTPM_TRY(audit_.record("group-refused", name, group.error().text));
        log::error("group '{}' {}: {}", name, is_final(group.error()) ? "is refused" : "does not open yet",
                   group.error().text);
    }
    if (!group && !is_final(group.error())) group.error().code = ErrorCode::kUnavailable;
    groups_.insert_or_assign(name, std::move(group));
    return {};
}

Result<Key> GroupKeys::unseal(Sealer &sealer, const GroupRecord &group) {
    VTPM_ASSIGN(const KeyPolicy policy, policy_of(group));
    VTPM_ASSIGN(const auto approvals, approvals_of(store_, policy));
    return sealer.unseal(group.key, policy, approvals);
}

void GroupKeys::close() {
    if (!state_) return;
    const auto opened = sealer();
    for (auto &[name, group] : groups_) {
        if (!group) continue;
        const Result<> moved =
            opened ? move_epoch(store_, **opened, *group) : Result<>(tl::make_unexpected(opened.error()));
        if (!moved)
            log::warning("group '{}': older copies of the store are not former ones yet: {}", name, moved.error().text);
    }
    groups_.clear();
    state_ = fail(ErrorCode::kUnavailable, "the manager ends");
}

Result<std::unique_ptr<Sealer>> GroupKeys::sealer() const {
    VTPM_ASSIGN(const auto pin, store_.pin());
    if (!pin) return fail(ErrorCode::kRefused, "store: it does not say what it is sealed to: it is damaged");
    VTPM_TRY(require_sealing(*pin));
    return open_sealer_(pin->identity);
}

Result<> GroupKeys::require_sealing(const Pin &pin) const {
    if (pin.sealing == sealing_) return {};
    return fail(ErrorCode::kRefused, "this store is sealed by '{}', the configuration says sealing = \"{}\"",
                pin.sealing, sealing_);
}

// Before the first start has made one, the default group is meant.
Result<> GroupKeys::open(const std::string &name) {
    VTPM_ASSIGN(const auto pin, store_.pin());
    if (pin || name != kDefaultGroup) VTPM_TRY(record(name));
    (void)unlock();
    VTPM_TRY(key(name));
    return {};
}

Result<> GroupKeys::accept_rollback(const std::string &name) {
    if (key(name)) {
        if (const auto found = stranger(); found && found->group == name) return accept_as(name);
        return fail(ErrorCode::kWrongState, "group '{}' is open", name);
    }
    VTPM_ASSIGN(const GroupRecord group, record(name));
    VTPM_ASSIGN(const auto opened, sealer());
    VTPM_ASSIGN(Key key, unseal(*opened, group));
    VTPM_TRY(audit_.record("rollback-accepted", name));
    VTPM_ASSIGN(OpenGroup open, accept_group(store_, *opened, group, std::move(key)));
    groups_.insert_or_assign(name, std::move(open));
    state_ = Result<>();
    VTPM_TRY(accept_as(name));
    log::warning("group '{}': its store was taken as it is: its vTPMs may have gone back in time", name);
    return {};
}

Result<KeyPolicy> GroupKeys::policy(const std::string &group) const {
    return record(group).and_then([](const GroupRecord &found) { return policy_of(found); });
}

Result<GroupRecord> GroupKeys::sealed_record(const std::string &name) {
    VTPM_ASSIGN(const Manifest *manifest, this->manifest(name));
    VTPM_ASSIGN(GroupRecord group, record(name));
    return as_remembered(std::move(group), manifest->terms());
}

Result<GroupRecord> GroupKeys::record(const std::string &name) const {
    VTPM_ASSIGN(const auto groups, store_.groups());
    const auto found = std::ranges::find(groups, name, &GroupRecord::name);
    if (found == groups.end()) return fail(ErrorCode::kNotFound, "there is no group '{}'", name);
    return *found;
}

Result<PcrValues> GroupKeys::read(const PcrSelection &pcrs) const {
    VTPM_ASSIGN(const auto opened, sealer());
    return opened->read(pcrs);
}

Result<> GroupKeys::require_free(const std::string &name) {
    const auto existing = record(name);
    if (!existing && existing.error().code == ErrorCode::kNotFound) return {};
    if (!existing) return tl::make_unexpected(existing.error());
    if (!incomplete_.contains(name)) return fail(ErrorCode::kInUse, "there is a group '{}' already", name);
    VTPM_TRY(forget_indices(*existing));
    return remove(*existing, WithVtpms::kNo);
}

// What was written of it counts from now on. The store has it under an object that opens at what the counter is at, and
// a manifest that is good with that object only; when the TPM has the epoch, it gets others, and the counter moves.
Result<> GroupKeys::begin(Sealer &sealer, const GroupRecord &record, OpenGroup &group) {
    VTPM_ASSIGN(const KeyPolicy policy, policy_of(record));
    GroupRecord begun = record;
    VTPM_TRY(seal_into(sealer, group.key, policy, Sealer::Opens::kFromAdvance, begun));
    VTPM_TRY(begin_epoch(store_, sealer, group, [&](Change &change) -> Result<> {
        change.add(SealGroup{begun});
        return {};
    }));
    return sealer.advance(begun.key, policy);
}

// One that a crash kept from beginning begins now.
Result<OpenGroup> GroupKeys::open_or_begin(Sealer &sealer, const GroupRecord &record, Key key) {
    VTPM_ASSIGN(OpenGroup group, open_group(store_, sealer, record, std::move(key)));
    if (group.begun) return group;
    const auto begun = begin(sealer, record, group);
    if (begun) return group;
    if (is_final(begun.error())) incomplete_.insert(record.name);
    return tl::make_unexpected(begun.error());
}

Result<> GroupKeys::create(KeyPolicy policy) {
    VTPM_TRY(require_name(policy.group));
    // Where no group opens, a new one can be a beginning; where the TPM is not ours, the sealer says so.
    if (!state_ && state_.error().code != ErrorCode::kRefused) return state_;
    VTPM_TRY(require_free(policy.group));
    VTPM_ASSIGN(const auto opened, sealer());
    VTPM_ASSIGN(Key key, random_key());
    VTPM_ASSIGN(policy.nv_index, new_index(store_, *opened));
    GroupRecord record = new_record(policy.group);
    VTPM_TRY(seal_into(*opened, key, policy, Sealer::Opens::kUntilAdvance, record));
    VTPM_ASSIGN(const Bytes id, random_group_id());
    VTPM_ASSIGN(const GroupList groups, known_groups_with(record.name, id));
    VTPM_ASSIGN(OpenGroup group, new_group(store_, *opened, record, std::move(key), id, groups));
    VTPM_TRY(remember_groups(groups, [&](Change &change) -> Result<> {
        change.add(InsertGroup{record});
        return audit_.record(change, "group-created", policy.group, describe(policy));
    }));
    if (auto begun = begin(*opened, record, group); !begun) {
        // What fails goes first: an index that stays is of a group that is in the store, which would be missed
        // otherwise; and a group that stays has its indices.
        const bool store_failed = begun.error().code == ErrorCode::kStoreFailed;
        const Result<> forgotten = store_failed ? Result<>() : forget_indices(record);
        const Result<> undone = forgotten ? remove(record, WithVtpms::kNo) : forgotten;
        if (!undone) {
            incomplete_.insert(policy.group);
            groups_.insert_or_assign(policy.group, not_complete({ErrorCode::kStoreFailed, begun.error().text}));
        }
        return begun;
    }
    groups_.insert_or_assign(policy.group, std::move(group));
    state_ = Result<>();
    log::info("group '{}' created, sealed to {}", policy.group, describe(policy));
    tell_without_recovery_key(record);
    return {};
}

Result<bool> GroupKeys::complete(Sealer &sealer, const GroupRecord &group) {
    VTPM_ASSIGN(const KeyPolicy policy, policy_of(group));
    const auto advanced = sealer.advance(group.key, policy);
    if (!advanced && advanced.error().code != ErrorCode::kRefused) return tl::make_unexpected(advanced.error());
    return advanced.has_value();
}

// First the store, then the counter: a crash in between leaves an object that opens by one step of the counter, which
// is made at the next start.
Result<> GroupKeys::seal_anew(Sealer &sealer, const KeyPolicy &policy, const Store::Edits &more) {
    VTPM_ASSIGN(const Key *open_key, key(policy.group));
    GroupRecord group;
    group.name = policy.group;
    VTPM_TRY(seal_into(sealer, *open_key, policy, Sealer::Opens::kFromAdvance, group));
    const auto edits = [&](Change &change) -> Result<> {
        change.add(SealGroup{group});
        return more(change);
    };
    const auto edit = [&](Terms &terms) {
        terms.pcrs = group.pcrs;
        terms.approver = group.approver;
        terms.generation = group.generation;
    };
    VTPM_TRY(change_terms(policy.group, edit, edits));
    if (const auto advanced = sealer.advance(group.key, policy); !advanced)
        return fail(
            advanced.error().code,
            "group '{}' is sealed anew, but what was sealed before may open still: {}; say it again, or restart the "
            "manager, when that is mended",
            policy.group, advanced.error().text);
    log::info("group '{}' is sealed to {} from now on", policy.group, describe(policy));
    return {};
}

Result<> GroupKeys::change_terms(const std::string &name, const std::function<void(Terms &)> &edit,
                                 const Store::Edits &more) {
    return commit(store_, [&](Change &change, Drafts &drafts) -> Result<> {
        VTPM_ASSIGN(Manifest *const manifest, this->manifest(name));
        Terms terms = manifest->terms();
        edit(terms);
        drafts.of(name, *manifest).put(std::move(terms));
        return more(change);
    });
}

Result<> GroupKeys::reseal(KeyPolicy policy) {
    VTPM_ASSIGN(const GroupRecord present, sealed_record(policy.group));
    policy.nv_index = present.nv_index;
    policy.generation = present.generation;
    VTPM_ASSIGN(const auto opened, sealer());
    VTPM_TRY(complete(*opened, present));
    return seal_anew(*opened, policy, [&](Change &change) {
        return audit_.record(change, "group-resealed", policy.group, describe(policy));
    });
}

Result<> GroupKeys::renew(const std::string &name) {
    VTPM_ASSIGN(const GroupRecord present, sealed_record(name));
    VTPM_ASSIGN(KeyPolicy policy, policy_of(present));
    if (!policy.approver)
        return fail(ErrorCode::kWrongState,
                    "group '{0}' has no approver: to seal it to something else, xen-vtpm group seal {0}", name);
    VTPM_ASSIGN(const auto opened, sealer());
    VTPM_ASSIGN(const bool opens, complete(*opened, present));
    const auto cut = cut_renewals_.find(name);
    const bool again = cut != cut_renewals_.end() && cut->second == present.generation;
    if (!again) ++policy.generation;
    if (!again || !opens) VTPM_TRY(renew(*opened, policy));
    cut_renewals_.erase(name);
    return {};
}

Result<> GroupKeys::renew(Sealer &sealer, const KeyPolicy &policy) {
    VTPM_ASSIGN(const auto approvals, approvals_of(store_, policy));
    VTPM_TRY(require_approved(sealer, policy, approvals));
    cut_renewals_[policy.group] = policy.generation;
    return seal_anew(sealer, policy, [&](Change &change) -> Result<> {
        VTPM_TRY(require_installed(approvals));
        VTPM_TRY(audit_.record(change, "group-renewed", policy.group, fmt::format("generation {}", policy.generation)));
        VTPM_TRY(remove_former_policies(policy, change));
        return remove_former_launches(policy, change);
    });
}

// Nobody is to lock himself out.
Result<> GroupKeys::require_approved(Sealer &sealer, const KeyPolicy &policy,
                                     const std::vector<BootPolicy> &approvals) {
    auto approved = sealer.require_approved(policy, approvals);
    if (approved || approved.error().code != ErrorCode::kRefused) return approved;
    return fail(
        ErrorCode::kRefused,
        "group '{0}' would not open any more: no boot policy of generation {1} approves this boot ({2}): xen-vtpm "
        "policy measure --json, policy sign --group {0} --generation {1}, policy install, and then group "
        "revoke-approvals",
        policy.group, policy.generation, approved.error().text);
}

// While the TPM was asked, one may have been revoked: that by which the group opens.
Result<> GroupKeys::require_installed(const std::vector<BootPolicy> &approvals) {
    VTPM_ASSIGN(const auto records, store_.policies());
    for (const BootPolicy &approval : approvals)
        if (std::ranges::find(records, approval.id(), &PolicyRecord::id) == records.end())
            return fail(ErrorCode::kInUse,
                        "boot policy {} was removed meanwhile: nothing was changed; repeat the command", approval.id());
    return {};
}

Result<> GroupKeys::remove_former_policies(const KeyPolicy &policy, Change &change) {
    VTPM_ASSIGN(const auto records, store_.policies());
    for (const PolicyRecord &record : records) {
        const auto boot = BootPolicy::parse(record.document);
        if (record.group != policy.group || !boot || boot->approval().generation >= policy.generation) continue;
        change.add(DeletePolicy{record.id});
        VTPM_TRY(
            audit_.record(change, "policy-removed", record.id,
                          fmt::format("group {}, generation {} is over", policy.group, boot->approval().generation)));
    }
    return {};
}

Result<> GroupKeys::remove_former_launches(const KeyPolicy &policy, Change &change) {
    VTPM_ASSIGN(const auto records, store_.launch_approvals());
    for (const PolicyRecord &record : records) {
        const auto approval = LaunchApproval::parse(record.document);
        if (record.group != policy.group || !approval || approval->terms().generation >= policy.generation) continue;
        change.add(DeleteLaunchApproval{record.id});
        VTPM_TRY(
            audit_.record(change, "launches-removed", record.id,
                          fmt::format("group {}, generation {} is over", policy.group, approval->terms().generation)));
    }
    return {};
}

Result<> GroupKeys::remove(const std::string &name) {
    VTPM_TRY(state_);
    if (name == kDefaultGroup) return fail(ErrorCode::kRefused, "group 'default' cannot be deleted");
    VTPM_ASSIGN(const GroupRecord group, record(name));
    return remove(group, WithVtpms::kNo);
}

// The default group too: it can be created again.
Result<> GroupKeys::discard(const std::string &name) {
    const auto group = record(name);
    if (!group && group.error().code == ErrorCode::kNotFound && known_groups().ids.contains(name)) return forget(name);
    if (!group) return tl::make_unexpected(group.error());
    const auto opened = key(name);
    if (opened)
        return fail(ErrorCode::kWrongState,
                    "group '{}' is open, not lost: delete its vTPMs one by one (xen-vtpm delete UUID)", name);
    // It is not lost either while it waits, or all do.
    const ErrorCode code = opened.error().code;
    if (state_ ? code == ErrorCode::kUnavailable : code != ErrorCode::kRefused)
        return tl::make_unexpected(opened.error());
    return remove(*group, WithVtpms::kYes);
}

Result<> GroupKeys::remove(const GroupRecord &group, WithVtpms with_vtpms) {
    const bool discarded = with_vtpms == WithVtpms::kYes;
    VTPM_TRY(remember_groups(known_groups_without(group.name), [&](Change &change) {
        if (discarded) change.add(DeleteVtpmsOf{group.name});
        change.add(DeleteGroup{group.name});
        return audit_.record(change, discarded ? "group-discarded" : "group-deleted", group.name);
    }));
    groups_.erase(group.name);
    incomplete_.erase(group.name);
    cut_renewals_.erase(group.name);
    counts_.erase(group.name);
    if (const auto forgotten = forget_indices(group); !forgotten)
        log::warning(
            "NV index {0:#x} of the hardware TPM, once of group '{1}', or its counter is left ({2}): tpm2_nvundefine "
            "-C o {0:#x}",
            group.nv_index, group.name, forgotten.error().text);
    log::info("group '{}' deleted", group.name);
    return {};
}

// A counter that is left is the next group's.
Result<> GroupKeys::forget_indices(const GroupRecord &group) const {
    if (group.nv_index == 0) return {};
    VTPM_ASSIGN(const auto opened, sealer());
    VTPM_TRY(opened->remove_epoch(group.nv_index));
    if (const std::uint32_t other = opened->other_index(group.nv_index); other != 0)
        VTPM_TRY(opened->remove_epoch(other));
    return opened->remove_counter(group.nv_index);
}

Result<std::vector<GroupInfo>> GroupKeys::list() const {
    VTPM_ASSIGN(const auto groups, store_.groups());
    VTPM_ASSIGN(const auto policies, store_.policies());
    std::vector<GroupInfo> infos;
    for (const GroupRecord &group : groups) {
        const auto policy = policy_of(group);  // one that is damaged is refused already
        const auto refusal = refusal_of(group.name);
        VTPM_ASSIGN(const std::size_t vtpms, count_vtpms(group.name));
        VTPM_ASSIGN(const std::int64_t launch_approvals, store_.count_launch_approvals(group.name));
        infos.push_back({group.name, group.pcrs,
                         policy && policy->approver ? policy->approver->fingerprint() : std::string(), group.generation,
                         count_policies(policies, group.name, group.generation),
                         count_policies(policies, group.name, group.generation + 1),
                         static_cast<std::size_t>(launch_approvals), !group.recovery.empty(), group.created, vtpms,
                         refusal ? refusal->text : std::string(), refusal && refusal->code == ErrorCode::kUnavailable});
    }
    return infos;
}

Result<std::size_t> GroupKeys::count_vtpms(const std::string &group) const {
    const auto found = groups_.find(group);
    if (found != groups_.end() && found->second) return found->second->manifest.count_vtpms();
    const auto counted = counts_.find(group);
    if (counted != counts_.end()) return counted->second;
    VTPM_ASSIGN(const std::int64_t count, store_.count_vtpms(group));
    counts_[group] = static_cast<std::size_t>(count);
    return static_cast<std::size_t>(count);
}

std::optional<Error> GroupKeys::refusal_of(const std::string &group) const {
    const auto found = groups_.find(group);
    if (found != groups_.end()) return found->second ? std::nullopt : std::optional(found->second.error());
    if (state_) return Error{ErrorCode::kUnavailable, "it was not tried yet"};
    return Error{is_final(state_.error()) ? ErrorCode::kRefused : ErrorCode::kUnavailable, state_.error().text};
}

}  // namespace vtpm
