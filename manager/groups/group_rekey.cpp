// SPDX-License-Identifier: Apache-2.0
// GroupKeys that gives a group another key. All that the TPM keeps by the former key stays until the store has the new
// one, in one change; what it keeps by the new key lies beside it, and so do the vTPMs as they will be.
#include <algorithm>

#include "base/log.hpp"
#include "manager/groups/group_keys.hpp"

namespace vtpm {
namespace {

tl::unexpected<Error> stays(const std::string &group, const Error &why, std::string_view remedy = {}) {
    return fail(why.code, "group '{}' keeps its key: {}{}", group, why.text, remedy);
}

// What an attempt that was cut left there has an authorization that nobody knows any more.
Result<Epoch> first_epoch(Sealer &sealer, std::uint32_t index, const Key &key) {
    if (index == 0) return Epoch();
    VTPM_ASSIGN(const Key authorization, epoch_authorization(key));
    VTPM_ASSIGN(Epoch epoch, random_epoch());
    VTPM_TRY(sealer.remove_epoch(index));
    VTPM_TRY(sealer.write_epoch(index, authorization, epoch.view()));
    return epoch;
}

}  // namespace

// What the TPM has of it before the store does.
struct GroupKeys::NextKey {
    KeyPolicy policy;
    GroupRecord sealed;
    CaRecord ca;
    Epoch epoch;
};

// First all vTPMs, of which nothing counts yet: others have their turns meanwhile. Then what the TPM keeps, and the
// store's change.
Result<> GroupKeys::rekey(const std::string &name, NewCa new_ca, VtpmKeys &vtpms) {
    VTPM_TRY(record(name));
    if (const auto open = key(name); !open)
        return stays(name, open.error(),
                     fmt::format("; it must be open: xen-vtpm group open {0}, or group recover {0}", name));
    if (!rekeyed_.empty())
        return fail(ErrorCode::kInUse, "group '{}' gets another key just now: say it again when it has it", rekeyed_);
    VTPM_TRY(merge_staged(name));  // what an attempt left that was cut
    if (const auto room = store_.require_room(); !room) return stays(name, room.error());
    rekeyed_ = name;
    const Result<GroupRecord> adopted = rekey_open(name, new_ca, vtpms);
    rekeyed_.clear();
    if (!adopted) {
        (void)merge_staged(name);
        return stays(name, adopted.error());
    }
    log::warning("group '{0}' has another key: its former recovery key is void: xen-vtpm group recovery-key {0}", name);
    if (const auto advanced = advance_to(*adopted); !advanced)
        return fail(advanced.error().code,
                    "group '{}' has another key, but a copy of the store may open by the former one still: {}; restart "
                    "the manager when that is mended",
                    name, advanced.error().text);
    if (const auto merged = merge_staged(name); !merged)
        return fail(merged.error().code,
                    "group '{0}' has another key, but the store's file has states under the former one still: {1}; "
                    "restart the manager when that is mended",
                    name, merged.error().text);
    return {};
}

Result<GroupRecord> GroupKeys::rekey_open(const std::string &name, NewCa new_ca, VtpmKeys &vtpms) {
    VTPM_ASSIGN(GroupRecord present, sealed_record(name));
    VTPM_ASSIGN(OpenGroup next, group_to_be(present));
    for (bool more = true; more;) {
        VTPM_ASSIGN(const OpenGroup *former, open_group_named(name));
        VTPM_ASSIGN(more, vtpms.stage(*former, next));
        VTPM_TRY(give_way_());
    }
    VTPM_ASSIGN(const auto opened, sealer());
    VTPM_TRY(complete(*opened, present));
    VTPM_ASSIGN(NextKey prepared, prepare_key(*opened, present, next.key, new_ca));
    return adopt_key(std::move(present), std::move(next), std::move(prepared), vtpms);
}

// As it is before any vTPM is put into its manifest. What the TPM has to do must be possible before all is staged.
Result<OpenGroup> GroupKeys::group_to_be(const GroupRecord &present) {
    VTPM_ASSIGN(const auto opened, sealer());
    VTPM_TRY(complete(*opened, present));
    GroupRecord record = present;
    record.nv_index = opened->other_index(present.nv_index);
    record.recovery.clear();
    VTPM_ASSIGN(const OpenGroup *former, open_group_named(present.name));
    VTPM_ASSIGN(Key key, random_key());
    return next_group(store_, *opened, *former, record, std::move(key));
}

Result<GroupKeys::NextKey> GroupKeys::prepare_key(Sealer &sealer, const GroupRecord &present, const Key &key,
                                                  NewCa new_ca) const {
    NextKey next;
    VTPM_ASSIGN(next.policy, policy_of(present));
    next.policy.nv_index = sealer.other_index(present.nv_index);
    VTPM_TRY(seal_into(sealer, key, next.policy, Sealer::Opens::kFromAdvance, next.sealed));
    VTPM_TRY(require_same_pcrs(sealer, present, next.sealed.key.pcr_values));
    VTPM_ASSIGN(next.ca, next_ca(sealer, present, key, new_ca));
    VTPM_ASSIGN(next.epoch, first_epoch(sealer, next.policy.nv_index, key));
    return next;
}

// By the object that opened it, which the TPM made: what the row says of their values is nobody's word.
Result<> GroupKeys::require_same_pcrs(Sealer &sealer, GroupRecord present, Bytes values) {
    if (present.pcrs.empty()) return {};
    present.key.pcr_values = std::move(values);
    VTPM_ASSIGN(const bool same, complete(sealer, present));
    if (same) return {};
    return fail(ErrorCode::kRefused,
                "the PCRs {0} are not as they were when it was sealed, and the next boot may not have them so; if it "
                "will: xen-vtpm group seal {1} --pcrs {0}, and then group rekey",
                present.pcrs, present.name);
}

Result<CaRecord> GroupKeys::next_ca(Sealer &sealer, const GroupRecord &present, const Key &next, NewCa new_ca) const {
    CaRecord ca = present.ca;
    if (ca.certificates.empty()) return ca;
    if (new_ca == NewCa::kYes) return CaRecord();
    VTPM_ASSIGN(const Key *former, key(present.name));
    VTPM_ASSIGN(const Key former_authorization, ca_authorization(*former));
    VTPM_ASSIGN(const Key authorization, ca_authorization(next));
    auto changed = sealer.change_authorization(ca.key, former_authorization, authorization);
    if (!changed && changed.error().code == ErrorCode::kRefused)
        return fail(ErrorCode::kRefused, "its CA cannot go along: {}; without it: --new-ca", changed.error().text);
    if (!changed) return tl::make_unexpected(changed.error());
    ca.key = std::move(*changed);
    return ca;
}

// In one turn: what was said of the group since it began is in the store, and nobody says more meanwhile.
Result<GroupRecord> GroupKeys::adopt_key(GroupRecord present, OpenGroup next, NextKey prepared, VtpmKeys &vtpms) {
    VTPM_ASSIGN(const OpenGroup *former, open_group_named(present.name));
    VTPM_ASSIGN(GroupRecord group, sealed_record(present.name));
    present.manifest = group.manifest;
    if (group != present)
        return fail(ErrorCode::kInUse,
                    "it was sealed anew, or got a recovery key or a CA, which would be void: say it again");
    group.key = std::move(prepared.sealed.key);
    group.nv_index = prepared.policy.nv_index;
    const bool another_ca = !group.ca.certificates.empty() && prepared.ca.certificates.empty();
    group.ca = std::move(prepared.ca);
    group.recovery.clear();
    next.manifest.remember(former->manifest.terms().id, former->manifest.terms().groups);
    const auto edits = [&](Change &change, Manifest::Draft &rows) -> Result<> {
        VTPM_TRY(audit_.record(change, "group-rekeyed", group.name, "the former recovery key is void"));
        change.add(ReplaceGroup{group});
        VTPM_TRY(rows.put(group.ca));
        return vtpms.rotate(*former, next, change, rows);
    };
    VTPM_TRY(adopt_group(store_, next, std::move(prepared.epoch), edits));
    groups_.insert_or_assign(group.name, std::move(next));
    vtpms.rotated(another_ca);
    return group;
}

Result<> GroupKeys::advance_to(const GroupRecord &group) const {
    VTPM_ASSIGN(const KeyPolicy policy, policy_of(group));
    VTPM_ASSIGN(const auto opened, sealer());
    VTPM_TRY(opened->advance(group.key, policy));
    if (const auto used = opened->used_indices()) remove_former_epochs(*opened, *used);
    return {};
}

Result<bool> GroupKeys::has_staged() const {
    for (const auto &[name, group] : groups_) {
        if (!group || name == rekeyed_) continue;
        VTPM_ASSIGN(const bool staged, store_.has_staged(name));
        if (staged) return true;
    }
    return false;
}

Result<> GroupKeys::merge_staged() {
    VTPM_ASSIGN(const auto records, store_.groups());
    for (const GroupRecord &group : records)
        if (key(group.name)) VTPM_TRY(merge_staged(group.name));
    return {};
}

// Others have their turns.
Result<> GroupKeys::merge_staged(const std::string &group) {
    constexpr std::int64_t kAtOnce = 32;
    while (group != rekeyed_) {
        VTPM_ASSIGN(const bool staged, store_.has_staged(group));
        if (!staged) return {};
        VTPM_TRY(store_.commit([&](Change &change) -> Result<> {
            change.add(MergeStaged{group, kAtOnce});
            return {};
        }));
        VTPM_TRY(give_way_());
    }
    return {};
}

// Of open groups: what a rekey left that was cut, or that before it. One that stays is in nobody's way.
void GroupKeys::remove_former_epochs(Sealer &sealer, const std::vector<std::uint32_t> &used) const {
    for (const auto &[name, group] : groups_) {
        if (!group) continue;
        const std::uint32_t other = sealer.other_index(group->nv_index);
        if (std::ranges::find(used, other) == used.end()) continue;
        if (const auto removed = sealer.remove_epoch(other); !removed)
            log::warning("NV index {:#x} of the hardware TPM, which group '{}' had, is left: {}", other, name,
                         removed.error().text);
    }
}

}  // namespace vtpm
