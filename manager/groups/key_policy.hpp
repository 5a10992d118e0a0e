// SPDX-License-Identifier: Apache-2.0
// What it takes to open a group's key: this TPM, and a boot of its host that is as it was, or that somebody approved.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "manager/boot/boot_policy.hpp"
#include "manager/store/store.hpp"

namespace vtpm {

struct KeyPolicy {
    std::string group;
    PcrSelection pcrs;                    // as they were when the key was sealed; empty: no such condition
    std::optional<ApproverKey> approver;  // he says which PCRs, and what they must be; then `pcrs` is empty
    std::uint32_t generation = 1;         // of his approvals: those for a former one open nothing
    std::uint32_t nv_index = 0;           // the group's: its counter has not moved since the key was sealed
};

// "this TPM only" and the like.
std::string describe(const KeyPolicy &policy);

// As the store has it. kRefused: what it has is damaged.
Result<KeyPolicy> policy_of(const GroupRecord &group);

// The boot policies that are installed for a group and its generation. What is damaged is left out, and logged: it can
// open nothing.
Result<std::vector<BootPolicy>> approvals_of(Store &store, const KeyPolicy &policy);

}  // namespace vtpm
