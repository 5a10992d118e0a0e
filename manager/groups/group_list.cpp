// SPDX-License-Identifier: Apache-2.0
// GroupKeys as each group's manifest knows the others: who has the disk can remove a group with all its rows, and with
// the TPM its NV index too, or put a group of his own there. Then only the others tell of it. A group that does not
// open cannot be told of a change: so a later list holds, but only of a group that the earlier one knows by its id,
// which nobody else can know; and of what the earlier one has besides, only what the later one deleted is forgotten.
#include <fmt/ranges.h>

#include <algorithm>

#include "base/log.hpp"
#include "manager/groups/drafts.hpp"
#include "manager/groups/group_keys.hpp"

namespace vtpm {
namespace {

bool names(const GroupList &groups, const OpenGroup &group) {
    const auto found = groups.ids.find(group.name);
    return found != groups.ids.end() && found->second == group.manifest.terms().id;
}

const GroupList &own_list(const OpenGroup &group) { return group.manifest.terms().groups; }

}  // namespace

// Its own, or a later one of a group that it knows; or a still later one of a group that is known there, and so on.
GroupList GroupKeys::groups_as_known_to(const OpenGroup &group) const {
    GroupList last = own_list(group);
    for (bool later = true; std::exchange(later, false);)
        for (const auto &[name, other] : groups_) {
            if (!other || !names(last, *other) || own_list(*other).number <= last.number) continue;
            GroupList next = own_list(*other);
            next.join(last);
            last = std::move(next);
            later = true;
        }
    return last;
}

// As most of those that are open know it; where that is nobody's word, as the default group does. `but`: not asked,
// unless there is no other.
GroupList GroupKeys::known_groups(std::string_view but) const {
    std::optional<GroupList> best;
    std::ptrdiff_t most = 0;
    for (const auto &[name, group] : groups_) {
        if (!group || name == but) continue;
        GroupList groups = groups_as_known_to(*group);
        const auto known = std::ranges::count_if(
            groups_, [&](const auto &entry) { return entry.second && names(groups, *entry.second); });
        if (best && (known < most || (known == most && name != kDefaultGroup))) continue;
        best = std::move(groups);
        most = known;
    }
    if (best) return *best;
    return but.empty() ? GroupList() : known_groups();
}

// Who put a group there learns of no other. Where there are groups, and no list of them, there is none until all are
// open: settle_groups().
Result<GroupList> GroupKeys::known_groups_with(const std::string &name, const Bytes &id) {
    if (const auto found = stranger(); found && found->kind == Stranger::Kind::kUnknown)
        return fail(ErrorCode::kRefused, "no group is created until this is settled: {}", text_of(*found));
    GroupList groups = known_groups();
    VTPM_ASSIGN(const auto records, store_.groups());
    if (groups.number == 0 && !records.empty()) return GroupList();
    groups.ids.insert_or_assign(name, id);
    ++groups.number;
    return groups;
}

// One that stands in the place of another takes nothing of that along.
GroupList GroupKeys::known_groups_without(const std::string &name) const {
    GroupList groups = known_groups(name);
    const auto found = groups_.find(name);
    if (found == groups_.end() || !found->second || names(groups, *found->second)) groups.erase(name);
    return next_of(std::move(groups));
}

// One that is refused is no stranger, and not missing: that it is refused is told. Nor is one that begins just now.
std::optional<GroupKeys::Stranger> GroupKeys::missing_from(const GroupList &groups) const {
    for (const auto &[name, id] : groups.ids) {
        if (groups_.contains(name)) continue;
        if (const auto row = record(name); !row && row.error().code == ErrorCode::kNotFound)
            return Stranger{name, Stranger::Kind::kMissing, {}};
    }
    return std::nullopt;
}

std::optional<GroupKeys::Stranger> GroupKeys::unknown_to(const GroupList &groups) const {
    if (groups.number == 0) return std::nullopt;
    std::vector<std::string_view> known;
    for (const auto &[name, group] : groups_)
        if (group && names(groups, *group)) known.push_back(name);
    for (const auto &[name, group] : groups_)
        if (group && !names(groups, *group))
            return Stranger{name, Stranger::Kind::kUnknown, fmt::format("{}", fmt::join(known, ", "))};
    return std::nullopt;
}

// First whether they know each other: until then one that somebody put there may be the one that misses another.
std::optional<GroupKeys::Stranger> GroupKeys::stranger() const {
    std::vector<GroupList> lists{known_groups()};
    for (const auto &[name, group] : groups_)
        if (group) lists.push_back(groups_as_known_to(*group));
    for (const GroupList &groups : lists)
        if (auto found = unknown_to(groups)) return found;
    for (const GroupList &groups : lists)
        if (auto found = missing_from(groups)) return found;
    return std::nullopt;
}

std::string GroupKeys::text_of(const Stranger &stranger) {
    if (stranger.kind == Stranger::Kind::kMissing)
        return fmt::format(
            "the other groups' manifests know of a group '{0}', which the store does not have: somebody removed it "
            "from "
            "the store (restore the present one); if it is gone for good: xen-vtpm group delete --with-vtpms {0}",
            stranger.group);
    return fmt::format(
        "the manifests of other groups ({1}) do not know the group '{0}' that the store has: somebody put it there, or "
        "them (restore the present store, or destroy what is not yours); if all are yours, and were refused when it "
        "came: xen-vtpm group accept-rollback {0}",
        stranger.group, stranger.others);
}

// Those that are open, and that it names: who put another one there learns nothing.
Result<> GroupKeys::remember_groups(const GroupList &groups, const Store::Edits &more) {
    return commit(store_, [&](Change &change, Drafts &drafts) {
        for (auto &[name, group] : groups_) {
            if (!group || !names(groups, *group)) continue;
            Terms terms = group->manifest.terms();
            terms.groups = groups;
            drafts.of(name, group->manifest).put(std::move(terms));
        }
        return more(change);
    });
}

// After an attempt at all groups: a first list, if none has one yet and all are open; and the last one for those that
// were refused when it was written.
Result<> GroupKeys::settle_groups() {
    const auto is_open = [](const auto &entry) { return entry.second.has_value(); };
    GroupList groups = known_groups();
    const GroupList known = groups;
    for (const auto &[name, group] : groups_)
        if (group && names(known, *group) && own_list(*group).number < known.number) groups.join(own_list(*group));
    const bool all_know = std::ranges::all_of(
        groups_, [&](const auto &entry) { return entry.second && own_list(*entry.second) == known; });
    if (all_know) groups.gone.clear();
    if (groups != known) groups = next_of(std::move(groups));
    bool behind = false;
    for (const auto &[name, group] : groups_)
        behind |= group && names(groups, *group) && own_list(*group).number < groups.number;
    if (groups.number == 0 && std::ranges::all_of(groups_, is_open)) {
        groups.number = 1;
        for (const auto &[name, group] : groups_) groups.ids.emplace(name, group->manifest.terms().id);
        behind = true;
    }
    if (behind) VTPM_TRY(remember_groups(groups, [](Change &) { return Result<>(); }));
    return tell_of_stranger();
}

Result<> GroupKeys::tell_of_stranger() {
    const auto found = stranger();
    const std::string what = found ? text_of(*found) : std::string();
    if (std::exchange(told_of_, what) == what || !found) return {};
    log::error("{}; until then no vTPM is created that nobody knows", what);
    return audit_.record(found->kind == Stranger::Kind::kMissing ? "group-lost" : "group-unknown", found->group);
}

// The administrator said that it is the group: of whatever other time, or a new one that the others do not know yet.
Result<> GroupKeys::accept_as(const std::string &name) {
    VTPM_ASSIGN(const OpenGroup *group, open_group_named(name));
    GroupList groups = known_groups(name);
    if (groups.number == 0 || names(groups, *group)) return {};
    groups.gone.erase(group->manifest.terms().id);
    groups.ids.insert_or_assign(name, group->manifest.terms().id);
    return remember_groups(next_of(std::move(groups)),
                           [&](Change &change) { return audit_.record(change, "group-accepted", name); });
}

Result<> GroupKeys::forget(const std::string &name) {
    GroupList groups = known_groups();
    groups.erase(name);
    VTPM_TRY(remember_groups(next_of(std::move(groups)),
                             [&](Change &change) { return audit_.record(change, "group-discarded", name); }));
    log::warning("group '{}', which the store did not have any more, is given up", name);
    return {};
}

}  // namespace vtpm
