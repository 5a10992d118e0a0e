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
    GroupRecord group{std::string(kDefaultGroup), {}, std::time(nullptr)};
    VTPM_ASSIGN(Key key, seal_new_key(sealer, default_pcrs_, group));
    const ByteView identity = sealer.identity();
    VTPM_TRY(store_.initialise({sealing_, Bytes(identity.begin(), identity.end())}, group));
    keys_.insert_or_assign(group.name, std::move(key));
    return {};
}

Result<Key> GroupKeys::seal_new_key(Sealer &sealer, const PcrSelection &pcrs, GroupRecord &group) {
    VTPM_ASSIGN(Key key, random_key());
    VTPM_ASSIGN(group.key, sealer.seal(key, pcrs));
    return key;
}

// One group's refusal is no other group's.
Result<> GroupKeys::unseal_groups(Sealer &sealer) {
    VTPM_ASSIGN(const auto groups, store_.groups());
    if (groups.empty()) return fail(ErrorCode::kRefused, "store: the inventory has no group: it is damaged");
    std::size_t open = 0;
    for (const GroupRecord &group : groups) {
        Result<Key> key = sealer.unseal(group.key);
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

// The sealer is reached again: it is not held while nothing is sealed or unsealed.
Result<> GroupKeys::create(const std::string &name, const PcrSelection &pcrs) {
    VTPM_TRY(require_name(name));
    VTPM_TRY(state_);
    if (keys_.contains(name)) return fail(ErrorCode::kInUse, "there is a group '{}' already", name);
    VTPM_ASSIGN(const auto pin, store_.pin());
    if (!pin) return fail(ErrorCode::kRefused, "store: it does not say what it is sealed to: it is damaged");
    VTPM_ASSIGN(const auto sealer, open_sealer_(pin->identity));
    GroupRecord group{name, {}, std::time(nullptr)};
    VTPM_ASSIGN(Key key, seal_new_key(*sealer, pcrs, group));
    VTPM_TRY(store_.insert_group(group));
    keys_.insert_or_assign(name, std::move(key));
    log::info("group '{}' created, sealed to {}", name, pcrs.empty() ? "this TPM only" : pcrs.to_string());
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
    std::vector<GroupInfo> infos;
    for (const GroupRecord &group : groups)
        infos.push_back({group.name, group.key.policy, group.created, refusal_of(group.name)});
    return infos;
}

std::string GroupKeys::refusal_of(const std::string &group) const {
    const auto found = keys_.find(group);
    if (found != keys_.end()) return found->second ? std::string() : found->second.error().text;
    return state_ ? std::string() : state_.error().text;
}

}  // namespace vtpm
