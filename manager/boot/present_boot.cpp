// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/present_boot.hpp"

#include <algorithm>

#include "manager/boot/event_record.hpp"

namespace vtpm {
namespace {

// How far a policy is from the present boot.
struct Distance {
    std::size_t pcrs = 0;  // that differ
    std::string why;
    PcrValues now{};  // if it is they that differ
};

std::size_t count_different(const PcrValues &approved, const PcrValues &now) {
    return static_cast<std::size_t>(std::ranges::count_if(approved, [&](const auto &entry) {
        const auto present = now.find(entry.first);
        return present == now.end() || present->second != entry.second;
    }));
}

// Nothing of it: the policy approves the present boot.
Result<std::optional<Distance>> distance(const BootPolicy &policy, const ApproverKey &approver, const ReadPcrs &read,
                                         std::int64_t now) {
    const BootApproval &approval = policy.approval();
    const auto values = read(approval.pcrs);
    if (!values && values.error().code != ErrorCode::kRefused) return tl::make_unexpected(values.error());
    if (!values) return Distance{approval.values.size(), values.error().text};
    if (*values != approval.values)
        return Distance{count_different(approval.values, *values), differences(approval.values, *values, "approved"),
                        *values};
    if (const auto valid = policy.verify(approver, now); !valid) return Distance{0, valid.error().text};
    return std::nullopt;
}

}  // namespace

Result<const BootPolicy *> approval_of_present_boot(const std::vector<BootPolicy> &installed,
                                                    const ApproverKey &approver, const ReadPcrs &read, std::int64_t now,
                                                    const ReadEvents &read_events) {
    std::optional<Distance> nearest;
    const BootPolicy *nearest_policy = nullptr;
    for (const BootPolicy &policy : installed) {
        VTPM_ASSIGN(auto away, distance(policy, approver, read, now));
        if (!away) return &policy;
        if (nearest && nearest->pcrs <= away->pcrs) continue;
        nearest = std::move(away);
        nearest_policy = &policy;
    }
    if (!nearest)
        return fail(ErrorCode::kRefused,
                    "its approver approved no boot of this host: xen-vtpm policy measure, sign and install");
    const BootApproval &approval = nearest_policy->approval();
    const std::string events =
        read_events ? explain(approval.values, nearest->now, {}, read_events(approval.pcrs)) : std::string();
    return fail(
        ErrorCode::kRefused,
        "no boot policy (of {}) approves this boot; nearest is {}: {}{}{} (xen-vtpm policy measure tells what was "
        "measured)",
        installed.size(), nearest_policy->id(), nearest->why, events.empty() ? "" : "; ", events);
}

}  // namespace vtpm
