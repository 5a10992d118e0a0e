// SPDX-License-Identifier: Apache-2.0
// GroupKeys that gives a group another key. All that the TPM keeps by the former key stays until the store has the new
// one, in one transaction; what it keeps by the new key lies beside it.
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
    Key key;
    KeyPolicy policy;
    GroupRecord sealed;
    Bytes recovery;  // that it had then
    CaRecord ca;
    Epoch epoch;
};

Result<> GroupKeys::rekey(const std::string &name, NewCa new_ca, VtpmKeys &vtpms) {
    VTPM_TRY(record(name));
    if (const auto open = key(name); !open)
        return stays(name, open.error(),
                     fmt::format("; it must be open: xen-vtpm group open {0}, or group recover {0}", name));
    VTPM_ASSIGN(const GroupRecord present, sealed_record(name));
    VTPM_ASSIGN(const auto opened, sealer());
    VTPM_TRY(complete(*opened, present));
    auto next = prepare_key(*opened, present, new_ca);
    if (!next) return stays(name, next.error());
    const KeyPolicy policy = next->policy;
    const auto adopted = adopt_key(*opened, name, std::move(*next), vtpms);
    if (!adopted) return stays(name, adopted.error());
    log::warning("group '{0}' has another key: its former recovery key is void: xen-vtpm group recovery-key {0}", name);
    if (const auto advanced = opened->advance(adopted->key, policy); !advanced)
        return fail(advanced.error().code,
                    "group '{}' has another key, but a copy of the store may open by the former one still: {}; restart "
                    "the manager when that is mended",
                    name, advanced.error().text);
    if (const auto used = opened->used_indices()) remove_former_epochs(*opened, *used);
    return {};
}

Result<GroupKeys::NextKey> GroupKeys::prepare_key(Sealer &sealer, const GroupRecord &present, NewCa new_ca) const {
    NextKey next;
    VTPM_ASSIGN(next.key, random_key());
    next.recovery = present.recovery;
    VTPM_ASSIGN(next.policy, policy_of(present));
    next.policy.nv_index = sealer.other_index(present.nv_index);
    VTPM_TRY(seal_into(sealer, next.key, next.policy, Sealer::Opens::kFromAdvance, next.sealed));
    VTPM_TRY(require_same_pcrs(sealer, present, next.sealed.key.pcr_values));
    VTPM_ASSIGN(next.ca, next_ca(sealer, present, next.key, new_ca));
    VTPM_ASSIGN(next.epoch, first_epoch(sealer, next.policy.nv_index, next.key));
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

// In one turn: what was said of the group while the TPM was asked is in the store, and nobody says more meanwhile.
Result<GroupRecord> GroupKeys::adopt_key(const Sealer &sealer, const std::string &name, NextKey next, VtpmKeys &vtpms) {
    VTPM_ASSIGN(const OpenGroup *former, open_group_named(name));
    VTPM_ASSIGN(GroupRecord group, sealed_record(name));
    if (group.recovery != next.recovery)
        return fail(ErrorCode::kInUse, "it got a recovery key meanwhile, which would be void: say it again");
    group.key = std::move(next.sealed.key);
    group.nv_index = next.policy.nv_index;
    const bool another_ca = !group.ca.certificates.empty() && next.ca.certificates.empty();
    group.ca = std::move(next.ca);
    group.recovery.clear();
    const auto edits = [&](const Key &key, Change &change, Manifest::Draft &rows) -> Result<> {
        VTPM_TRY(audit_.record(change, "group-rekeyed", name, "the former recovery key is void"));
        change.add(ReplaceGroup{group});
        return vtpms.rotate(former->key, key, change, rows);
    };
    VTPM_ASSIGN(OpenGroup open,
                rekeyed_group(store_, sealer, *former, group, std::move(next.key), std::move(next.epoch), edits));
    groups_.insert_or_assign(name, std::move(open));
    vtpms.rotated(another_ca);
    return group;
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
