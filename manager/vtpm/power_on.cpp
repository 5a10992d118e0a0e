// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/power_on.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>

#include "launch/event_log.hpp"
#include "launch/pcrs.hpp"
#include "shared-protocol/event_log_command.hpp"
#include "shared-protocol/tpm_message.hpp"

namespace vtpm {
namespace {

constexpr std::uint32_t kPcrExtend = 0x182;  // TPM_CC_PCR_Extend
constexpr std::uint32_t kExtend12 = 0x14;    // TPM_ORD_Extend

launch::Banks banks_of(const VtpmRecord &vtpm) {
    if (vtpm.version == TpmVersion::k12) return {launch::Hash::kSha1};
    launch::Banks banks;
    for (const std::string_view name : vtpm.profile.pcr_banks.names())
        if (const auto bank = launch::hash_named(name)) banks.push_back(*bank);
    return banks;
}

Result<launch::Events> events_of_launch(const VtpmRecord &vtpm, ByteView log, const launch::Banks &banks) {
    if (vtpm.launch == LaunchPolicy::kOff) return launch::Events();
    if (log.empty()) {
        VTPM_TRY(may_be_unmeasured(vtpm));
        return launch::unmeasured_events(banks);
    }
    VTPM_ASSIGN(const launch::EventLog recorded, launch::read_event_log(log));
    VTPM_ASSIGN(launch::EventLog here, launch::in_banks(recorded, banks));
    return std::move(here.events);
}

// By the PCR's empty password.
Bytes extend_20(const launch::Extend &extend) {
    BigEndian digests;
    digests.number(extend.digests.size(), 4);
    for (const auto &[bank, digest] : extend.digests) digests.u16(static_cast<std::uint16_t>(bank)).raw(digest);
    const BigEndian rest = BigEndian().u32(extend.pcr).raw(empty_password()).raw(digests.bytes());
    return tpm_message(kTpmSessions, kPcrExtend, rest.bytes());
}

Bytes extend_12(const launch::Extend &extend) {
    const BigEndian rest = BigEndian().u32(extend.pcr).raw(extend.digests.at(launch::Hash::kSha1));
    return tpm_message(kTpm12Request, kExtend12, rest.bytes());
}

// Why an approval does not count for a vTPM, whatever that boots; the later, the nearer it comes.
enum class Use { kOtherGroup, kOtherApprover, kOtherGeneration, kOtherVtpm, kOtherBank, kCounts };

std::string_view to_string(Use use) {
    switch (use) {
        case Use::kOtherGroup:
            return "";
        case Use::kOtherApprover:
            return "; what is installed for its group is another approver's, or was changed";
        case Use::kOtherGeneration:
            return "; what is installed for its group is for another generation";
        case Use::kOtherVtpm:
            return "; what is installed for its group names other vTPMs";
        case Use::kOtherBank:
            return "; what is installed for it has values of PCR banks only that it has not";
        case Use::kCounts:
            break;
    }
    return "";
}

using PcrBanksAfter = std::map<launch::Hash, launch::PcrBank>;

Result<PcrBanksAfter> banks_after(const launch::EventLog &log) {
    PcrBanksAfter all;
    for (const launch::Hash bank : log.banks) {
        VTPM_ASSIGN(all[bank], launch::pcrs_after(log.events, bank));
    }
    return all;
}

// Null: the vTPM has not the bank whose values are approved.
const launch::PcrBank *bank_for(const PcrBanksAfter &present, const ApprovedLaunch &launch) {
    const auto bank = launch::hash_of_algorithm(launch.pcrs.tpm().pcrSelections[0].hash);
    const auto found = bank ? present.find(*bank) : present.end();
    return found == present.end() ? nullptr : &found->second;
}

Use use_of(const LaunchApproval &approval, const VtpmRecord &vtpm, const ApproverKey &approver,
           std::uint32_t generation, const PcrBanksAfter &present) {
    const LaunchTerms &terms = approval.terms();
    if (terms.group != vtpm.group) return Use::kOtherGroup;
    if (!approval.verify(approver)) return Use::kOtherApprover;
    if (terms.generation != generation) return Use::kOtherGeneration;
    if (!approval.is_for(vtpm.uuid)) return Use::kOtherVtpm;
    const bool usable = std::ranges::any_of(terms.launches, [&](const auto &one) { return bank_for(present, one); });
    return usable ? Use::kCounts : Use::kOtherBank;
}

struct Nearest {
    std::string label;
    std::vector<std::string> differs;
};

tl::unexpected<Error> not_approved(const VtpmRecord &vtpm, const ApproverKey &approver, std::uint32_t generation,
                                   const std::optional<Nearest> &nearest, Use best) {
    if (nearest)
        return fail(ErrorCode::kRefused,
                    "vTPM {} is for launches that its approver signed, and this is none of them: from '{}', which "
                    "comes nearest, {} {}",
                    vtpm.uuid.to_string(), nearest->label, fmt::join(nearest->differs, ", "),
                    nearest->differs.size() == 1 ? "differs" : "differ");
    return fail(ErrorCode::kRefused,
                "vTPM {} is for launches that {} signed for group '{}', generation {}, and none is installed for it "
                "(xen-vtpm launch install){}",
                vtpm.uuid.to_string(), approver.fingerprint(), vtpm.group, generation, to_string(best));
}

void append(Bytes &out, const Bytes &bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }

}  // namespace

Result<> may_be_unmeasured(const VtpmRecord &vtpm) {
    if (vtpm.launch < LaunchPolicy::kRequire) return {};
    return fail(ErrorCode::kRefused,
                "vTPM {} is for guests whose launch was measured, and nobody measured what this one boots: its "
                "configuration needs bootloader = \"xen-vtpm-launch\", and the guest is to be started anew",
                vtpm.uuid.to_string());
}

// Its approver is the one whom its row names, whoever is its group's now.
Result<std::string> approved_launch(const VtpmRecord &vtpm, ByteView launch, std::uint32_t generation,
                                    std::span<const LaunchApproval> approvals) {
    if (launch.empty()) VTPM_TRY(may_be_unmeasured(vtpm));
    VTPM_ASSIGN(const ApproverKey approver, ApproverKey::from_public_area(vtpm.launch_approver));
    VTPM_ASSIGN(const launch::EventLog recorded, launch::read_event_log(launch));
    VTPM_ASSIGN(const launch::EventLog here, launch::in_banks(recorded, banks_of(vtpm)));
    VTPM_ASSIGN(const PcrBanksAfter present, banks_after(here));
    std::optional<Nearest> nearest;
    Use best = Use::kOtherGroup;
    for (const LaunchApproval &approval : approvals) {
        const Use use = use_of(approval, vtpm, approver, generation, present);
        best = std::max(best, use);
        if (use != Use::kCounts) continue;
        for (const ApprovedLaunch &one : approval.terms().launches) {
            const launch::PcrBank *const bank = bank_for(present, one);
            if (bank == nullptr) continue;
            auto differs = deviations(one, *bank);
            if (differs.empty()) return one.label;
            if (!nearest || differs.size() < nearest->differs.size()) nearest = {one.label, std::move(differs)};
        }
    }
    return not_approved(vtpm, approver, generation, nearest, best);
}

Result<PowerOnEvents> power_on_events(const VtpmRecord &vtpm, const PcrValues &host_pcrs, ByteView launch) {
    launch::EventLog log{banks_of(vtpm), {}};
    for (const auto &[pcr, value] : host_pcrs) {
        VTPM_ASSIGN(launch::Event event, launch::host_event(pcr, value, log.banks));
        log.events.push_back(std::move(event));
    }
    VTPM_ASSIGN(launch::Events launched, events_of_launch(vtpm, launch, log.banks));
    std::ranges::move(launched, std::back_inserter(log.events));
    const bool is_20 = vtpm.version == TpmVersion::k20;
    PowerOnEvents all;
    if (is_20 && !log.events.empty()) {
        VTPM_ASSIGN(all.event_log, launch::write_event_log(log));
        append(all.commands, tpm_message(kTpmNoSessions, kGiveEventLog, all.event_log));
    }
    for (const launch::Extend &extend : launch::extends_of(log.events))
        append(all.commands, is_20 ? extend_20(extend) : extend_12(extend));
    return all;
}

}  // namespace vtpm
