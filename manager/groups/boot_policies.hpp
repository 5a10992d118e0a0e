// SPDX-License-Identifier: Apache-2.0
// The boot policies that are installed in this host's store: what its approvers allow it to boot.
#pragma once

#include "manager/groups/group_keys.hpp"

namespace vtpm {

struct BootPolicyInfo {
    PolicyRecord record;
    std::optional<BootApproval> approval;  // none: the record is damaged
    std::string problem;                   // why it opens nothing now, whatever the host boots; empty if it may
};

class BootPolicies {
public:
    BootPolicies(Store &store, GroupKeys &keys) : store_(store), keys_(keys) {}

    // The policy's id. A group that was refused for lack of it is open afterwards. One of the group's next generation
    // waits for GroupKeys::renew(). kInvalid: no policy; kNotFound: no such group; kRefused: not its approver's, for
    // another generation, expired, or about PCRs that there are not.
    Result<std::string> install(const std::string &document);
    Result<std::vector<BootPolicyInfo>> list() const;
    // Who has no copy of it opens nothing by it any more; GroupKeys::renew() makes the copies worthless.
    Result<> revoke(const std::string &id);

private:
    Store &store_;
    GroupKeys &keys_;
};

}  // namespace vtpm
