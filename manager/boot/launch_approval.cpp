// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/launch_approval.hpp"

#include <algorithm>
#include <array>
#include <set>

#include "base/big_endian.hpp"
#include "manager/boot/approval_fields.hpp"
#include "manager/boot/signing_key.hpp"
#include "manager/tpm/policy_digest.hpp"

namespace vtpm {
namespace {

constexpr std::string_view kLaunchApproval = "a launch approval";
// Its NUL is part of it: what begins so is signed for nothing else. It is longer than what a boot policy's signature
// for the TPM covers.
constexpr std::string_view kApprovalPrefix("xen-vtpm launch approval 1\0", 27);
constexpr std::size_t kMaxLabel = 64;

constexpr unsigned kKernelPcr = 4;
constexpr unsigned kCommandLinePcr = 8;
constexpr unsigned kFilesPcr = 9;
// Into 0 and 1 the host measures itself; others are extended by the guest's own system.
constexpr std::array kLaunchPcrs{2U, 3U, 4U, 5U, 6U, 7U, 8U, 9U, 11U, 12U, 13U, 14U};

Result<> check_vtpms(const LaunchTerms &terms) {
    const std::set<Uuid> once(terms.vtpms.begin(), terms.vtpms.end());
    if (once.size() == terms.vtpms.size() && once.size() <= LaunchApproval::kMaxVtpms) return {};
    return fail(ErrorCode::kInvalid, "{}'s 'vtpms' are at most {}, each once", kLaunchApproval,
                LaunchApproval::kMaxVtpms);
}

Result<> check_label(const std::string &label) {
    const bool good = !label.empty() && label.size() <= kMaxLabel &&
                      std::ranges::all_of(label, [](char c) { return c >= ' ' && c <= '~'; });
    if (good) return {};
    return fail(ErrorCode::kInvalid, "{}'s 'label' is 1 to {} printable ASCII characters", kLaunchApproval, kMaxLabel);
}

// Fewer would let another kernel pass, or another command line.
Result<> check_pcrs(const ApprovedLaunch &launch) {
    const auto pcrs = launch.pcrs.numbers();
    for (const unsigned pcr : {kKernelPcr, kFilesPcr})
        if (std::ranges::find(pcrs, pcr) == pcrs.end())
            return fail(ErrorCode::kInvalid,
                        "{}'s 'pcrs' have 4, the kernel, and 9, its command line and initrd: those of '{}' do not",
                        kLaunchApproval, launch.label);
    for (const unsigned pcr : pcrs)
        if (std::ranges::find(kLaunchPcrs, pcr) == kLaunchPcrs.end())
            return fail(ErrorCode::kInvalid, "{}'s 'pcrs' are among 2 to 9 and 11 to 14: PCR {} tells of no launch",
                        kLaunchApproval, pcr);
    return {};
}

Result<> check_launches(const std::vector<ApprovedLaunch> &launches) {
    if (launches.empty() || launches.size() > LaunchApproval::kMaxLaunches)
        return fail(ErrorCode::kInvalid, "{} has 1 to {} 'launches'", kLaunchApproval, LaunchApproval::kMaxLaunches);
    std::set<std::string> labels;
    for (const ApprovedLaunch &launch : launches) {
        VTPM_TRY(check_label(launch.label));
        VTPM_TRY(check_pcrs(launch));
        VTPM_TRY(check_values(kLaunchApproval, launch.pcrs, launch.values));
        if (!labels.insert(launch.label).second)
            return fail(ErrorCode::kInvalid, "{} has each 'label' once, this one '{}' twice", kLaunchApproval,
                        launch.label);
    }
    return {};
}

// PCR 9 has both: where the command line is another one, the initrd may be too.
std::string words_for(unsigned pcr, bool knows_line, bool other_line) {
    switch (pcr) {
        case kKernelPcr:
            return "its kernel (PCR 4)";
        case kCommandLinePcr:
            return "its command line (PCR 8)";
        case kFilesPcr:
            if (!knows_line) return "its command line or initrd (PCR 9)";
            return other_line ? std::string() : "its initrd (PCR 9)";
        case 11:
            return "what its UKI consists of (PCR 11)";
        case 12:
            return "what its UKI was given (PCR 12)";
        default:
            return fmt::format("PCR {}", pcr);
    }
}

}  // namespace

Result<> check(const LaunchTerms &terms) {
    VTPM_TRY(check_group(kLaunchApproval, terms.group));
    VTPM_TRY(check_generation(kLaunchApproval, terms.generation));
    VTPM_TRY(check_vtpms(terms));
    return check_launches(terms.launches);
}

Result<LaunchApproval> LaunchApproval::sign(ByteView private_key, LaunchTerms terms) {
    VTPM_TRY(check(terms));
    VTPM_ASSIGN(const SigningKey key, SigningKey::from_pem(private_key));
    LaunchApproval approval(std::move(terms));
    approval.approver_ = key.approver().fingerprint();
    VTPM_ASSIGN(approval.signature_, key.sign(approval.document()));
    if (approval.to_json().size() > kMaxSize)
        return fail(ErrorCode::kInvalid, "{} has at most {} bytes: sign fewer launches at once", kLaunchApproval,
                    kMaxSize);
    return approval;
}

Result<> LaunchApproval::verify(const ApproverKey &approver) const {
    if (approver.fingerprint() != approver_)
        return fail(ErrorCode::kRefused, "the launch approval for group '{}' is signed by {}, the approver is {}",
                    terms_.group, approver_, approver.fingerprint());
    if (!is_his_) is_his_ = approver.verify(document(), signature_);
    if (!is_his_)
        return fail(ErrorCode::kRefused,
                    "the launch approval for group '{}' was changed after it was signed: its 'signature' is not the "
                    "approver's",
                    terms_.group);
    return {};
}

std::string LaunchApproval::id() const { return document_id(document()); }

bool LaunchApproval::is_for(const Uuid &vtpm) const {
    return terms_.vtpms.empty() || std::ranges::find(terms_.vtpms, vtpm) != terms_.vtpms.end();
}

// Everything but its own signature, in one form for one content.
Bytes LaunchApproval::document() const {
    BigEndian document(kApprovalPrefix);
    document.field(bytes_of(terms_.group)).number(terms_.generation, 4).number(terms_.vtpms.size(), 4);
    for (const Uuid &vtpm : terms_.vtpms) document.raw(vtpm.bytes);
    document.number(terms_.launches.size(), 4);
    for (const ApprovedLaunch &launch : terms_.launches)
        document.field(bytes_of(launch.label)).field(marshalled(launch.pcrs)).field(joined(launch.values));
    return document.field(bytes_of(approver_)).bytes();
}

std::vector<std::string> deviations(const ApprovedLaunch &approved, const launch::PcrBank &present) {
    const auto differs = [&](unsigned pcr, const Bytes &value) {
        const auto found = present.find(pcr);
        return found == present.end() ? value != Bytes(value.size()) : value != found->second;
    };
    const auto line = approved.values.find(kCommandLinePcr);
    const bool knows_line = line != approved.values.end();
    const bool other_line = knows_line && differs(kCommandLinePcr, line->second);
    std::vector<std::string> names;
    for (const auto &[pcr, value] : approved.values)
        if (differs(pcr, value))
            if (std::string name = words_for(pcr, knows_line, other_line); !name.empty())
                names.push_back(std::move(name));
    return names;
}

}  // namespace vtpm
