// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/launch_release.hpp"

#include <algorithm>

#include "base/big_endian.hpp"
#include "manager/boot/signing_key.hpp"
#include "manager/crypto/encoding.hpp"
#include "manager/crypto/json_object.hpp"

namespace vtpm {
namespace {

constexpr std::string_view kReleaseFormat = "xen-vtpm-launch-release-1";
constexpr std::array<std::string_view, 5> kReleaseFields = {"format", "vtpm", "binding", "approver", "signature"};
// As in launch_approval.cpp.
constexpr std::string_view kReleasePrefix("xen-vtpm launch release 1\0", 26);

}  // namespace

Result<LaunchRelease> LaunchRelease::sign(ByteView private_key, const Uuid &vtpm, Bytes binding) {
    if (binding.size() != kLaunchBinding)
        return fail(ErrorCode::kInvalid, "a binding is {} hexadecimal digits, as `xen-vtpm show` tells",
                    2 * kLaunchBinding);
    VTPM_ASSIGN(const SigningKey key, SigningKey::from_pem(private_key));
    LaunchRelease release(vtpm, std::move(binding));
    release.approver_ = key.approver().fingerprint();
    VTPM_ASSIGN(release.signature_, key.sign(release.document()));
    return release;
}

Result<LaunchRelease> LaunchRelease::parse(std::string_view text) {
    VTPM_ASSIGN(const JsonObject object, JsonObject::parse(text, kMaxSize, "a launch release"));
    VTPM_TRY(object.require_format(kReleaseFormat, kReleaseFields));
    VTPM_ASSIGN(const std::string uuid, object.text("vtpm"));
    const auto vtpm = Uuid::parse(uuid);
    if (!vtpm) return object.invalid("must have a UUID as 'vtpm'");
    VTPM_ASSIGN(const std::string digits, object.text("binding"));
    auto binding = from_hex(digits);
    if (!binding || binding->size() != kLaunchBinding)
        return object.invalid("must have {} hexadecimal digits as 'binding'", 2 * kLaunchBinding);
    LaunchRelease release(*vtpm, std::move(*binding));
    VTPM_ASSIGN(release.approver_, object.fingerprint("approver"));
    VTPM_ASSIGN(release.signature_, object.bytes("signature", kMaxSignature));
    return release;
}

std::string LaunchRelease::to_json() const {
    const Json object{{"format", kReleaseFormat},
                      {"vtpm", vtpm_.to_string()},
                      {"binding", to_hex(binding_)},
                      {"approver", approver_},
                      {"signature", to_base64(signature_)}};
    return object.dump(4) + "\n";
}

Result<> LaunchRelease::verify(const ApproverKey &approver, const Uuid &vtpm, ByteView binding) const {
    const auto refused = [&](const std::string &why) {
        return fail(ErrorCode::kRefused, "the launch release for vTPM {} {}", vtpm_.to_string(), why);
    };
    if (vtpm != vtpm_) return refused("is not for vTPM " + vtpm.to_string());
    if (!std::ranges::equal(binding, binding_))
        return refused(fmt::format("is for its binding {}, and it is bound by {}", to_hex(binding_), to_hex(binding)));
    if (approver.fingerprint() != approver_)
        return refused(fmt::format("is signed by {}, the approver is {}", approver_, approver.fingerprint()));
    if (!approver.verify(document(), signature_))
        return refused("was changed after it was signed: its 'signature' is not the approver's");
    return {};
}

Bytes LaunchRelease::document() const {
    return BigEndian(kReleasePrefix).raw(vtpm_.bytes).raw(binding_).field(bytes_of(approver_)).bytes();
}

}  // namespace vtpm
