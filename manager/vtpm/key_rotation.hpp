// SPDX-License-Identifier: Apache-2.0
// The vTPMs of a group that gets another key: each gets a new key, and its states are encrypted anew under that. So who
// has the former key of the group opens nothing that is stored from then on.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "manager/groups/inventory.hpp"
#include "manager/vtpm/state_channel.hpp"

namespace vtpm {

class KeyRotation final : public VtpmKeys {
public:
    // Null: the vTPM does not run.
    using FindChannel = std::function<StateChannel *(const Uuid &vtpm)>;
    KeyRotation(Store &store, FindChannel find_channel) : store_(store), find_channel_(std::move(find_channel)) {}

    // In one change; their number bounds how long a guest waits.
    static constexpr std::size_t kAtOnce = 32;
    Result<bool> stage(const OpenGroup &former, OpenGroup &next) override;
    Result<> rotate(const OpenGroup &former, const OpenGroup &next, Change &change, Manifest::Draft &rows) override;
    void rotated(bool another_ca) override;

private:
    // A vTPM under the group's next key.
    struct Rotated {
        VtpmRecord row;
        Key key;
        std::map<StateKind, Bytes> envelopes;
        bool opened = true;  // false: its state does not open, so it keeps its own key
    };
    // What a channel gets when it is committed.
    struct Running {
        VtpmRecord row;
        Key key;
        Bytes pending;
    };
    Result<Rotated> rotated_one(const Uuid &uuid, const OpenGroup &former, const OpenGroup &next);
    [[nodiscard]] bool is_staged(const Uuid &uuid, const Manifest::Sum &row) const;

    Store &store_;
    FindChannel find_channel_;
    std::map<Uuid, Manifest::Sum> staged_;  // as their rows were then
    std::map<Uuid, std::string> kept_;      // their keys, since their states do not open, and why
    Uuid last_{};                           // that was looked at
    std::size_t since_begin_ = 0;           // staged since the first one was looked at
    std::vector<Running> running_;
};

}  // namespace vtpm
