// SPDX-License-Identifier: Apache-2.0
// Launches of guests that an approver signed: a vTPM that asks for approved ones is powered on for these only. Unlike a
// boot policy (boot_policy.hpp) it is the manager who checks it, and nobody else.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/uuid.hpp"
#include "launch/pcrs.hpp"
#include "manager/boot/approver_key.hpp"
#include "manager/tpm/pcr_values.hpp"

namespace vtpm {

// What a launch makes of PCRs: `launch predict`.
struct ApprovedLaunch {
    std::string label;  // 1 to 64 printable ASCII characters
    PcrSelection pcrs;  // 4 and 9 are among them: the kernel, and its command line and initrd
    PcrValues values;
};

// What the approver says.
struct LaunchTerms {
    std::string group;
    std::uint32_t generation = 1;  // of the group's key
    std::vector<Uuid> vtpms;       // that it is for; empty: all of the group
    std::vector<ApprovedLaunch> launches;
};

class LaunchApproval {
public:
    static constexpr std::size_t kMaxSize = 65'536;
    static constexpr std::size_t kMaxVtpms = 256;
    static constexpr std::size_t kMaxLaunches = 32;

    // The file that to_json() writes. kInvalid names the field. Nothing is believed yet: verify().
    static Result<LaunchApproval> parse(std::string_view text);
    [[nodiscard]] std::string to_json() const;

    // `private_key`: PEM (signing_key.hpp). kInvalid if the terms or the key are not usable.
    static Result<LaunchApproval> sign(ByteView private_key, LaunchTerms terms);

    // Of everything it says, 16 hexadecimal digits: its name in lists.
    [[nodiscard]] std::string id() const;

    // kRefused unless the approver signed exactly this, which is asked once. Whether it is for the group, the
    // generation and the vTPM in question is left to compare.
    [[nodiscard]] Result<> verify(const ApproverKey &approver) const;

    [[nodiscard]] const LaunchTerms &terms() const { return terms_; }
    // The fingerprint of the key that is said to have signed.
    [[nodiscard]] const std::string &approver() const { return approver_; }
    [[nodiscard]] bool is_for(const Uuid &vtpm) const;

private:
    explicit LaunchApproval(LaunchTerms terms) : terms_(std::move(terms)) {}
    [[nodiscard]] Bytes document() const;

    LaunchTerms terms_;
    std::string approver_;
    Bytes signature_;
    mutable bool is_his_ = false;  // whose fingerprint it has: it was verified
};

// kInvalid names the field that is not as LaunchTerms says, or of which there is too much.
Result<> check(const LaunchTerms &terms);

// The PCRs of `approved` that are otherwise in `present`, of the same bank, in words: "its kernel (PCR 4)"; empty: it
// is that launch.
std::vector<std::string> deviations(const ApprovedLaunch &approved, const launch::PcrBank &present);

}  // namespace vtpm
