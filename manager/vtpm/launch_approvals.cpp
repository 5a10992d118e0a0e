// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/launch_approvals.hpp"

#include <algorithm>
#include <ctime>

#include "base/log.hpp"
#include "manager/groups/audit.hpp"
#include "manager/vtpm/power_on.hpp"

namespace vtpm {
namespace {

// One of the next generation is for `group revoke-approvals`.
Result<> check_generation(const LaunchTerms &terms, std::uint32_t present) {
    if (terms.generation == present || terms.generation == std::uint64_t{present} + 1) return {};
    return fail(ErrorCode::kRefused,
                "the launch approval is for generation {0} of group '{1}', which is at {2}: have it signed with "
                "--generation {2}",
                terms.generation, terms.group, present);
}

}  // namespace

// What is damaged is left out, and logged: it approves nothing.
Result<std::span<const LaunchApproval>> LaunchApprovals::approvals_in(const std::string &group) const {
    VTPM_ASSIGN(auto records, store_.launch_approvals());
    std::erase_if(records, [&](const PolicyRecord &record) { return record.group != group; });
    Read &read = read_[group];
    if (std::ranges::equal(records, read.documents, {}, &PolicyRecord::document)) return read.approvals;
    read = {};
    for (PolicyRecord &record : records) {
        auto approval = LaunchApproval::parse(record.document);
        if (approval)
            read.approvals.push_back(std::move(*approval));
        else
            log::error("store: launch approval {} of group '{}' is damaged: {}", record.id, group,
                       approval.error().text);
        read.documents.push_back(std::move(record.document));
    }
    return read.approvals;
}

// The group's approver, or one whom a vTPM is bound to since he was.
Result<> LaunchApprovals::check_approver(const LaunchApproval &approval, const Terms &group) const {
    VTPM_ASSIGN(std::vector<Bytes> areas, store_.launch_approvers_of(approval.terms().group));
    areas.push_back(group.approver);
    for (const Bytes &area : areas) {
        const auto approver = ApproverKey::from_public_area(area);
        if (approver && approver->fingerprint() == approval.approver()) return approval.verify(*approver);
    }
    return fail(ErrorCode::kRefused,
                "the launch approval for group '{}' is signed by {}, who is not its approver, nor that of a vTPM in it",
                approval.terms().group, approval.approver());
}

Result<> LaunchApprovals::check_usable(const LaunchApproval &approval) const {
    const LaunchTerms &terms = approval.terms();
    VTPM_TRY(keys_.record(terms.group));
    VTPM_ASSIGN(const Manifest *manifest, keys_.manifest(terms.group));
    VTPM_TRY(check_approver(approval, manifest->terms()));
    return check_generation(terms, manifest->terms().generation);
}

std::string LaunchApprovals::problem_of(const LaunchApproval &approval) const {
    const LaunchTerms &terms = approval.terms();
    if (const auto usable = check_usable(approval); !usable) return usable.error().text;
    const auto manifest = keys_.manifest(terms.group);
    if (!manifest || terms.generation == (*manifest)->terms().generation) return {};
    return fmt::format("it counts from generation {} on: xen-vtpm group revoke-approvals {}", terms.generation,
                       terms.group);
}

Result<std::string> LaunchApprovals::install(const std::string &document) {
    VTPM_ASSIGN(const LaunchApproval approval, LaunchApproval::parse(document));
    const LaunchTerms &terms = approval.terms();
    VTPM_TRY(check_usable(approval));
    const std::string id = approval.id();
    VTPM_ASSIGN(const auto present, store_.launch_approvals());
    const auto others = std::ranges::count_if(
        present, [&](const PolicyRecord &record) { return record.group == terms.group && record.id != id; });
    if (static_cast<std::size_t>(others) >= kMost)
        return fail(ErrorCode::kShortage,
                    "group '{}' has {} launch approvals already: remove those that nobody needs (xen-vtpm launch "
                    "approvals, launch remove), or have several launches signed in one",
                    terms.group, others);
    VTPM_TRY(store_.commit([&](Change &change) {
        change.add(InsertLaunchApproval{{id, terms.group, approval.to_json(), std::time(nullptr)}});
        return Audit(store_).record(
            change, "launches-installed", id,
            fmt::format("group {}, {} launches of {}", terms.group, terms.launches.size(), approval.approver()));
    }));
    log::info("launch approval {} installed for group '{}'", id, terms.group);
    return id;
}

Result<std::vector<LaunchApprovalInfo>> LaunchApprovals::list() const {
    VTPM_ASSIGN(const auto records, store_.launch_approvals());
    std::vector<LaunchApprovalInfo> infos;
    for (const PolicyRecord &record : records) {
        const auto approval = LaunchApproval::parse(record.document);
        if (approval && approval->terms().group == record.group)
            infos.push_back({record, approval->terms(), problem_of(*approval)});
        else
            infos.push_back({record, std::nullopt, approval ? "its row is damaged" : approval.error().text});
    }
    return infos;
}

Result<> LaunchApprovals::remove(const std::string &id) {
    VTPM_TRY(store_.commit([&](Change &change) {
        change.add(DeleteLaunchApproval{id});
        return Audit(store_).record(change, "launches-removed", id);
    }));
    log::info("launch approval {} removed", id);
    return {};
}

// The generation is the manifest's, which nobody changes who has the disk.
Result<> LaunchApprovals::require_approved(const VtpmRecord &vtpm, ByteView launch) const {
    if (vtpm.launch != LaunchPolicy::kRequireApproved) return {};
    VTPM_ASSIGN(const Manifest *manifest, keys_.manifest(vtpm.group));
    VTPM_ASSIGN(const auto approvals, approvals_in(vtpm.group));
    VTPM_ASSIGN(const std::string label, approved_launch(vtpm, launch, manifest->terms().generation, approvals));
    log::info("vTPM {}: its launch is '{}', which its approver signed", vtpm.uuid.to_string(), label);
    return {};
}

}  // namespace vtpm
