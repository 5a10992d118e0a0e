// SPDX-License-Identifier: Apache-2.0
// The keys of the groups: created at the first start, unsealed at every other one, held in memory while the manager
// runs. Until unlock() succeeds, and after a refusal, there is none, and why is the answer to everyone who asks.
#pragma once

#include <map>
#include <string>

#include "manager/keys/sealer.hpp"
#include "manager/store/store.hpp"

namespace vtpm {

constexpr std::string_view kDefaultGroup = "default";

class GroupKeys {
public:
    // `sealing` is the configuration's word for what `open_sealer` opens: "tpm" or "file".
    GroupKeys(Store &store, std::string sealing, OpenSealer open_sealer)
        : store_(store), sealing_(std::move(sealing)), open_sealer_(std::move(open_sealer)) {}

    // May be called again after kUnavailable.
    Result<> unlock();

    // Unlocked, or why not.
    [[nodiscard]] const Result<> &state() const { return state_; }
    Result<const Key *> key(const std::string &group) const;

    // For status: what the keys are sealed to and under which policy.
    [[nodiscard]] const std::string &sealing() const { return sealing_; }
    [[nodiscard]] const std::string &sealer_description() const { return sealer_description_; }
    [[nodiscard]] const std::string &policy() const { return policy_; }

private:
    Result<> try_unlock();
    Result<> first_start(Sealer &sealer);
    Result<> unseal_groups(Sealer &sealer);

    Store &store_;
    std::string sealing_;
    OpenSealer open_sealer_;
    Result<> state_ = fail(ErrorCode::kUnavailable, "the group keys are not unsealed yet");
    std::map<std::string, Key, std::less<>> keys_;
    std::string sealer_description_;
    std::string policy_;
};

}  // namespace vtpm
