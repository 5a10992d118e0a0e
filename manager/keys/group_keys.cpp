// SPDX-License-Identifier: Apache-2.0
#include "manager/keys/group_keys.hpp"

namespace vtpm {

Result<> GroupKeys::unlock() {
    state_ = try_unlock();
    return state_;
}

Result<const Key *> GroupKeys::key(const std::string &group) const {
    VTPM_TRY(state_);
    const auto found = keys_.find(group);
    if (found == keys_.end()) return fail(ErrorCode::kRefused, "the inventory has no group '{}'", group);
    return &found->second;
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
    GroupRecord group{std::string(kDefaultGroup), {}};
    VTPM_ASSIGN(group.key, sealer.seal(key));
    const ByteView identity = sealer.identity();
    VTPM_TRY(store_.initialise({sealing_, Bytes(identity.begin(), identity.end())}, group));
    policy_ = group.key.policy;
    keys_.emplace(group.name, std::move(key));
    return {};
}

Result<> GroupKeys::unseal_groups(Sealer &sealer) {
    VTPM_ASSIGN(const auto groups, store_.groups());
    for (const GroupRecord &group : groups) {
        VTPM_ASSIGN(Key key, sealer.unseal(group.key));
        policy_ = group.key.policy;
        keys_.insert_or_assign(group.name, std::move(key));
    }
    if (keys_.empty()) return fail(ErrorCode::kRefused, "store: the inventory has no group: it is damaged");
    return {};
}

}  // namespace vtpm
