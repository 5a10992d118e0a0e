// SPDX-License-Identifier: Apache-2.0
// The launches of guests that approvers signed, as far as they are installed in this host's store.
#pragma once

#include <map>
#include <span>

#include "manager/boot/launch_approval.hpp"
#include "manager/groups/group_keys.hpp"

namespace vtpm {

struct LaunchApprovalInfo {
    PolicyRecord record;
    std::optional<LaunchTerms> terms;  // none: the record is damaged
    std::string problem;               // why no vTPM is powered on by it; empty if one may be
};

class LaunchApprovals {
public:
    static constexpr std::size_t kMost = 64;  // of one group

    LaunchApprovals(Store &store, GroupKeys &keys) : store_(store), keys_(keys) {}

    // The approval's id. One of the group's next generation waits for GroupKeys::renew(). kInvalid: no approval;
    // kNotFound: no such group; kRefused: that is not open, or the approval is for another generation, or by nobody who
    // approves launches in this group; kShortage: the group has as many as may be.
    Result<std::string> install(const std::string &document);
    [[nodiscard]] Result<std::vector<LaunchApprovalInfo>> list() const;
    // What it approved is approved no more on this host, unless who has a copy installs it again.
    Result<> remove(const std::string &id);

    // Of a vTPM that asks for approved launches: whether `launch`, as in OpenVtpm, is one. Of another vTPM: yes.
    [[nodiscard]] Result<> require_approved(const VtpmRecord &vtpm, ByteView launch) const;

private:
    [[nodiscard]] Result<> check_usable(const LaunchApproval &approval) const;
    [[nodiscard]] Result<> check_approver(const LaunchApproval &approval, const Terms &group) const;
    [[nodiscard]] std::string problem_of(const LaunchApproval &approval) const;
    [[nodiscard]] Result<std::span<const LaunchApproval>> approvals_in(const std::string &group) const;

    // Of a group, as they were when they were last needed: to parse and to verify them all takes longer than the rest
    // of a power-on.
    struct Read {
        std::vector<std::string> documents;
        std::vector<LaunchApproval> approvals;
    };

    Store &store_;
    GroupKeys &keys_;
    mutable std::map<std::string, Read> read_;
};

}  // namespace vtpm
