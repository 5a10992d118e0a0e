// SPDX-License-Identifier: Apache-2.0
// A launch approval, or a release, from outside: what is read is written as it was read, and nobody's signature is the
// approver's.
#include "manager/boot/launch_approval.hpp"
#include "manager/boot/launch_release.hpp"
#include "tests/unit/manager/openssl_keys.hpp"

namespace {
using namespace vtpm;

void approve(std::string_view text, const ApproverKey &approver) {
    const auto approval = LaunchApproval::parse(text);
    if (!approval) return;
    require(text.size() <= LaunchApproval::kMaxSize, "an approval is bounded");
    require(check(approval->terms()).has_value(), "an approval that was read is one");
    require(!approval->verify(approver), "an approval that was never given");
    const std::string written = approval->to_json();
    if (written.size() > LaunchApproval::kMaxSize) return;  // it was written closer together
    const auto again = LaunchApproval::parse(written);
    require(again && again->to_json() == written, "what is written is read");
    require(again->id() == approval->id() && approval->id().size() == 16, "an approval has one name");
}

void release(std::string_view text, const ApproverKey &approver) {
    const auto release = LaunchRelease::parse(text);
    if (!release) return;
    const auto again = LaunchRelease::parse(release->to_json());
    require(again && again->to_json() == release->to_json(), "what is written is read");
    require(!release->verify(approver, Uuid(), Bytes(kLaunchBinding)), "a release that was never given");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    static const ApproverKey approver = [] {
        auto key = ApproverKey::from_pem(public_pem(p256()));
        require(key.has_value(), "a key");
        return std::move(*key);
    }();
    const std::string_view text{reinterpret_cast<const char *>(data), size};  // bytes as text
    approve(text, approver);
    release(text, approver);
    return 0;
}
