// SPDX-License-Identifier: Apache-2.0
// Every change of what the store says of vTPMs, each with the manifest of its group.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "manager/groups/group_keys.hpp"

namespace vtpm {

class Inventory {
public:
    Inventory(Store &store, GroupKeys &keys) : store_(store), keys_(keys) {}

    // All of them: kRefused if the group is not open, kStoreFailed if nothing of it is durable.
    Result<> insert(const VtpmRecord &vtpm);
    Result<> remove(const VtpmRecord &vtpm);
    // A vTPM with its permanent state, in the place of `former` of the same group, if there is one.
    Result<> restore(const VtpmRecord &vtpm, const StateWrite &state, const std::optional<VtpmRecord> &former,
                     std::string_view origin);
    // What certifies the vTPMs of `group`; `event` for the audit log.
    Result<> set_ca(const std::string &group, const CaRecord &ca, std::string_view event);
    // As they are said to be from now on, all of `group` (UpdateVtpm); the rest for the audit log.
    Result<> update(const std::string &group, std::span<const VtpmRecord> vtpms, std::string_view event,
                    std::string_view subject, std::string_view detail);
    Result<> end_volatile_state(const VtpmRecord &vtpm);
    // All of them at once; `done` hears when they are durable, or that none is.
    void write(std::vector<std::shared_ptr<const StateWrite>> states, const Store::Done &done);

    // kRefused: its row is not what was written last, whatever the store has now.
    [[nodiscard]] Result<> verify(const VtpmRecord &vtpm) const;
    // What its manifest remembers of a group.
    [[nodiscard]] Result<Terms> terms(const std::string &group) const;

private:
    template <typename Edit>
    Result<> change(const std::string &group, Edit edit);

    Store &store_;
    GroupKeys &keys_;
};

}  // namespace vtpm
