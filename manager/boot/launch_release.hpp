// SPDX-License-Identifier: Apache-2.0
// An approver's word that one vTPM need not be launched as he approves any more. It is for one binding of that vTPM to
// him: once it was used, or the vTPM bound anew, it is worth nothing.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "base/uuid.hpp"
#include "manager/boot/approver_key.hpp"

namespace vtpm {

// Of one binding of one vTPM to an approver: random.
constexpr std::size_t kLaunchBinding = 16;

class LaunchRelease {
public:
    static constexpr std::size_t kMaxSize = 4096;

    // The file that to_json() writes. kInvalid names the field. Nothing is believed yet: verify().
    static Result<LaunchRelease> parse(std::string_view text);
    [[nodiscard]] std::string to_json() const;

    // `private_key`: PEM (signing_key.hpp). `binding`: as `xen-vtpm show` tells.
    static Result<LaunchRelease> sign(ByteView private_key, const Uuid &vtpm, Bytes binding);

    // kRefused unless the approver signed exactly this, for this binding of this vTPM.
    [[nodiscard]] Result<> verify(const ApproverKey &approver, const Uuid &vtpm, ByteView binding) const;

private:
    LaunchRelease(const Uuid &vtpm, Bytes binding) : vtpm_(vtpm), binding_(std::move(binding)) {}
    [[nodiscard]] Bytes document() const;

    Uuid vtpm_;
    Bytes binding_;
    std::string approver_;
    Bytes signature_;
};

}  // namespace vtpm
