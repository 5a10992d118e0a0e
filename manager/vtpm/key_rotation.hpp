// SPDX-License-Identifier: Apache-2.0
// The vTPMs of a group that gets another key: each gets a new key, and its states are encrypted anew under that. So who
// has the former key of the group opens nothing that is stored from then on.
#pragma once

#include <functional>
#include <vector>

#include "manager/groups/inventory.hpp"
#include "manager/vtpm/state_channel.hpp"

namespace vtpm {

class KeyRotation final : public VtpmKeys {
public:
    // Null: the vTPM does not run.
    using FindChannel = std::function<StateChannel *(const Uuid &vtpm)>;
    KeyRotation(Store &store, const Inventory &inventory, std::string group, FindChannel find_channel)
        : store_(store), inventory_(inventory), group_(std::move(group)), find_channel_(std::move(find_channel)) {}

    Result<> rotate(const Key &former, const Key &next, Change &change, Manifest::Draft &rows) override;
    void rotated(bool another_ca) override;

private:
    // What a channel gets when it is committed.
    struct Running {
        VtpmRecord row;
        Key key;
        Bytes pending;
    };
    Result<> rotate(VtpmRecord vtpm, const Key &former, const Key &next, Change &change, Manifest::Draft &rows);
    Result<> tell_of(const Uuid &vtpm, const Error &why, Change &change);

    Store &store_;
    const Inventory &inventory_;
    std::string group_;
    FindChannel find_channel_;
    std::vector<Running> running_;
};

}  // namespace vtpm
