// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/key_policy.hpp"

#include "base/log.hpp"

namespace vtpm {

std::string describe(const KeyPolicy &policy) {
    if (policy.approver) return fmt::format("boots that {} approves", policy.approver->fingerprint());
    return policy.pcrs.empty() ? "this TPM only" : policy.pcrs.to_string();
}

Result<KeyPolicy> policy_of(const GroupRecord &group) {
    KeyPolicy policy{group.name, {}, {}, group.generation, group.nv_index};
    const auto pcrs = PcrSelection::parse(group.pcrs);
    if (!pcrs) return fail(ErrorCode::kRefused, "store: the policy of the group's key is damaged: {}", group.pcrs);
    policy.pcrs = *pcrs;
    if (group.approver.empty()) return policy;
    VTPM_ASSIGN(policy.approver, ApproverKey::from_public_area(group.approver));
    return policy;
}

Result<std::vector<BootPolicy>> approvals_of(Store &store, const KeyPolicy &policy) {
    VTPM_ASSIGN(const auto records, store.policies());
    std::vector<BootPolicy> approvals;
    for (const PolicyRecord &record : records) {
        if (record.group != policy.group) continue;
        auto approval = BootPolicy::parse(record.document);
        if (!approval)
            log::error("store: boot policy {} of group '{}' is damaged: {}", record.id, policy.group,
                       approval.error().text);
        else if (approval->approval().generation == policy.generation)
            approvals.push_back(std::move(*approval));
    }
    return approvals;
}

}  // namespace vtpm
