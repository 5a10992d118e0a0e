// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/boot_policies.hpp"

#include <ctime>

#include "base/log.hpp"
#include "manager/groups/audit.hpp"

namespace vtpm {
namespace {

// One of the next generation is for `group revoke-approvals`.
bool is_next(const BootApproval &approval, const KeyPolicy &group) {
    return approval.generation == std::uint64_t{group.generation} + 1;
}

Result<> check_generation(const BootApproval &approval, const KeyPolicy &group) {
    if (approval.generation == group.generation || is_next(approval, group)) return {};
    return fail(
        ErrorCode::kRefused,
        "the boot policy is for generation {0} of group '{1}', which is at {2}: have it signed with --generation {2}",
        approval.generation, approval.group, group.generation);
}

// Why `policy` opens nothing, whatever the host boots.
Result<> check_usable(const BootPolicy &policy, const Result<KeyPolicy> &group) {
    if (!group) return tl::make_unexpected(group.error());
    if (!group->approver) return fail(ErrorCode::kWrongState, "group '{}' has no approver", group->group);
    VTPM_TRY(policy.verify(*group->approver, std::time(nullptr)));
    return check_generation(policy.approval(), *group);
}

std::string problem_of(const BootPolicy &policy, const Result<KeyPolicy> &group) {
    if (const auto usable = check_usable(policy, group); !usable) return usable.error().text;
    if (!is_next(policy.approval(), *group)) return {};
    return fmt::format("it counts from generation {} on: xen-vtpm group revoke-approvals {}",
                       policy.approval().generation, group->group);
}

}  // namespace

Result<std::string> BootPolicies::install(const std::string &document) {
    VTPM_ASSIGN(const BootPolicy policy, BootPolicy::parse(document));
    const BootApproval &approval = policy.approval();
    VTPM_TRY(check_usable(policy, keys_.policy(approval.group)));
    VTPM_TRY(keys_.read(approval.pcrs));  // are there such PCRs?
    VTPM_TRY(store_.commit([&](Change &change) {
        change.add(InsertPolicy{{policy.id(), approval.group, policy.to_json(), std::time(nullptr)}});
        return Audit(store_).record(change, "policy-installed", policy.id(),
                                    fmt::format("group {}, {}", approval.group, approval.pcrs.to_string()));
    }));
    log::info("boot policy {} installed for group '{}'", policy.id(), approval.group);
    if (!keys_.key(approval.group))
        if (const auto opened = keys_.open(approval.group); !opened)
            log::info("group '{}' is still refused: {}", approval.group, opened.error().text);
    return policy.id();
}

Result<std::vector<BootPolicyInfo>> BootPolicies::list() const {
    VTPM_ASSIGN(const auto records, store_.policies());
    std::vector<BootPolicyInfo> infos;
    for (const PolicyRecord &record : records) {
        const auto policy = BootPolicy::parse(record.document);
        if (!policy) {
            infos.push_back({record, std::nullopt, policy.error().text});
            continue;
        }
        infos.push_back({record, policy->approval(), problem_of(*policy, keys_.policy(record.group))});
    }
    return infos;
}

Result<> BootPolicies::revoke(const std::string &id) {
    VTPM_TRY(store_.commit([&](Change &change) {
        change.add(DeletePolicy{id});
        return Audit(store_).record(change, "policy-revoked", id);
    }));
    log::info("boot policy {} revoked", id);
    return {};
}

}  // namespace vtpm
