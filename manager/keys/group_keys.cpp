// SPDX-License-Identifier: Apache-2.0
#include "manager/keys/group_keys.hpp"

#include <algorithm>
#include <ctime>

#include "base/log.hpp"

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

Result<GroupRecord> seal(Sealer &sealer, const Key &key, const KeyPolicy &policy, std::int64_t created) {
    GroupRecord group{policy.group, policy.pcrs.to_string(), {}, policy.generation, {}, created};
    if (policy.approver) group.approver = policy.approver->public_area();
    VTPM_ASSIGN(group.key, sealer.seal(key, policy));
    return group;
}

}  // namespace

Result<> GroupKeys::unlock() {
    state_ = try_unlock();
    return state_;
}

Result<const Key *> GroupKeys::key(const std::string &group) const {
    VTPM_TRY(state_);
    const auto found = keys_.find(group);
    if (found == keys_.end()) return fail(ErrorCode::kRefused, "the inventory has no group '{}'", group);
    if (!found->second) return fail(found->second.error().code, "group '{}': {}", group, found->second.error().text);
    return &*found->second;
}

Result<> GroupKeys::try_unlock() {
    VTPM_ASSIGN(const auto pin, store_.pin());
    if (pin && pin->sealing != sealing_)
        return fail(ErrorCode::kRefused, "this store is sealed by '{}', the configuration says sealing = \"{}\"",
                    pin->sealing, sealing_);
    VTPM_ASSIGN(const auto sealer, open_sealer_(pin ? ByteView(pin->identity) : ByteView()));
    sealer_description_ = sealer->description();
    return pin ? unseal_groups(*sealer) : first_start(*sealer);
}

// The pin and the sealed key go into the store together: without the one the other is worth nothing.
Result<> GroupKeys::first_start(Sealer &sealer) {
    VTPM_ASSIGN(Key key, random_key());
    VTPM_ASSIGN(const GroupRecord group,
                seal(sealer, key, {std::string(kDefaultGroup), default_pcrs_, {}, 1}, std::time(nullptr)));
    const ByteView identity = sealer.identity();
    VTPM_TRY(store_.initialise({sealing_, Bytes(identity.begin(), identity.end())}, group));
    keys_.insert_or_assign(group.name, std::move(key));
    return {};
}

// One group's refusal is no other group's.
Result<> GroupKeys::unseal_groups(Sealer &sealer) {
    VTPM_ASSIGN(const auto groups, store_.groups());
    if (groups.empty()) return fail(ErrorCode::kRefused, "store: the inventory has no group: it is damaged");
    std::size_t open = 0;
    for (const GroupRecord &group : groups) {
        Result<Key> key = unseal(sealer, group);
        if (!key && key.error().code == ErrorCode::kUnavailable) return tl::make_unexpected(std::move(key).error());
        if (key)
            ++open;
        else
            log::error("group '{}' is refused: {}", group.name, key.error().text);
        keys_.insert_or_assign(group.name, std::move(key));
    }
    if (open == 0) return tl::make_unexpected(keys_.begin()->second.error());
    return {};
}

Result<Key> GroupKeys::unseal(Sealer &sealer, const GroupRecord &group) {
    VTPM_ASSIGN(const KeyPolicy policy, policy_of(group));
    VTPM_ASSIGN(const auto approvals, approvals_of(store_, group.name));
    return sealer.unseal(group.key, policy, approvals);
}

// The sealer is reached again: it is not held while nothing is sealed or unsealed.
Result<std::unique_ptr<Sealer>> GroupKeys::sealer() const {
    VTPM_ASSIGN(const auto pin, store_.pin());
    if (!pin) return fail(ErrorCode::kRefused, "store: it does not say what it is sealed to: it is damaged");
    return open_sealer_(pin->identity);
}

Result<> GroupKeys::unlock(const std::string &name) {
    VTPM_ASSIGN(const GroupRecord group, record(name));
    VTPM_ASSIGN(const auto opened, sealer());
    VTPM_ASSIGN(Key key, unseal(*opened, group));
    keys_.insert_or_assign(name, std::move(key));
    state_ = Result<>();
    log::info("group '{}' is open", name);
    return {};
}

Result<KeyPolicy> GroupKeys::policy(const std::string &group) const {
    return record(group).and_then([](const GroupRecord &found) { return policy_of(found); });
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

Result<> GroupKeys::create(const KeyPolicy &policy) {
    VTPM_TRY(require_name(policy.group));
    VTPM_TRY(state_);
    if (keys_.contains(policy.group)) return fail(ErrorCode::kInUse, "there is a group '{}' already", policy.group);
    VTPM_ASSIGN(const auto opened, sealer());
    VTPM_ASSIGN(Key key, random_key());
    VTPM_ASSIGN(const GroupRecord group, seal(*opened, key, policy, std::time(nullptr)));
    VTPM_TRY(store_.insert_group(group));
    keys_.insert_or_assign(policy.group, std::move(key));
    log::info("group '{}' created, sealed to {}", policy.group, describe(policy));
    return {};
}

Result<> GroupKeys::reseal(const KeyPolicy &policy) {
    VTPM_ASSIGN(const Key *open_key, key(policy.group));
    VTPM_ASSIGN(const auto opened, sealer());
    VTPM_ASSIGN(const GroupRecord group, seal(*opened, *open_key, policy, 0));
    VTPM_TRY(store_.update_group(group));
    log::info("group '{}' is sealed to {} from now on", policy.group, describe(policy));
    return {};
}

Result<> GroupKeys::remove(const std::string &name) {
    VTPM_TRY(state_);
    if (name == kDefaultGroup) return fail(ErrorCode::kInvalid, "the default group stays");
    if (!keys_.contains(name)) return fail(ErrorCode::kNotFound, "there is no group '{}'", name);
    VTPM_TRY(store_.delete_group(name));
    keys_.erase(name);
    log::info("group '{}' deleted", name);
    return {};
}

Result<std::vector<GroupInfo>> GroupKeys::list() const {
    VTPM_ASSIGN(const auto groups, store_.groups());
    VTPM_ASSIGN(const auto policies, store_.policies());
    std::vector<GroupInfo> infos;
    for (const GroupRecord &group : groups) {
        const auto policy = policy_of(group);  // one that is damaged is refused already
        const auto count =
            std::ranges::count_if(policies, [&](const PolicyRecord &record) { return record.group == group.name; });
        infos.push_back({group.name, group.pcrs,
                         policy && policy->approver ? policy->approver->fingerprint() : std::string(), group.generation,
                         static_cast<std::size_t>(count), group.created, refusal_of(group.name)});
    }
    return infos;
}

std::string GroupKeys::refusal_of(const std::string &group) const {
    const auto found = keys_.find(group);
    if (found != keys_.end()) return found->second ? std::string() : found->second.error().text;
    return state_ ? std::string() : state_.error().text;
}

}  // namespace vtpm
