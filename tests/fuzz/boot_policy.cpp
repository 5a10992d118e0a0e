// SPDX-License-Identifier: Apache-2.0
// A boot policy from outside: what is read is written as it was read, and nobody's signature is the approver's.
#include "manager/boot/boot_policy.hpp"

#include "tests/unit/manager/openssl_keys.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    using namespace vtpm;
    static const ApproverKey approver = [] {
        auto key = ApproverKey::from_pem(public_pem(p256()));
        require(key.has_value(), "a key");
        return std::move(*key);
    }();
    const auto policy = BootPolicy::parse({reinterpret_cast<const char *>(data), size});  // bytes as text
    if (!policy) return 0;
    require(size <= BootPolicy::kMaxSize, "a policy is bounded");
    const auto again = BootPolicy::parse(policy->to_json());
    require(again && again->to_json() == policy->to_json(), "what is written is read");
    require(again->id() == policy->id() && policy->id().size() == 16, "a policy has one name");
    require(check(policy->approval()).has_value(), "an approval that was read is one");
    require(!policy->verify(approver, 0), "an approval that was never given");
    (void)policy->for_tpm(approver);
    return 0;
}
