// SPDX-License-Identifier: Apache-2.0
// The file of a boot policy: one JSON object. Read as strictly as it is written, for it comes from outside.
#include <array>

#include "manager/boot/boot_policy.hpp"
#include "manager/boot/pcr_json.hpp"
#include "manager/crypto/encoding.hpp"

namespace vtpm {
namespace {

constexpr std::string_view kFormat = "xen-vtpm-boot-policy-1";
constexpr std::array<std::string_view, 9> kFields = {
    "format", "group", "generation", "pcrs", "values", "not_after", "approver", "tpm_signature", "document_signature"};

Result<std::optional<std::int64_t>> not_after_of(const JsonObject &object) {
    if (!object.has("not_after")) return std::nullopt;
    VTPM_ASSIGN(const std::string text, object.text("not_after"));
    const auto seconds = from_utc(text);
    if (!seconds) return object.invalid("must have a time such as \"2027-01-31T23:59:59Z\" as 'not_after'");
    return seconds;
}

Result<BootApproval> approval_of(const JsonObject &object) {
    BootApproval approval;
    VTPM_ASSIGN(approval.group, object.text("group"));
    VTPM_ASSIGN(approval.generation, object.number("generation"));
    VTPM_ASSIGN(approval.pcrs, pcrs_in(object));
    VTPM_ASSIGN(approval.values, values_in(object, approval.pcrs));
    VTPM_ASSIGN(approval.not_after, not_after_of(object));
    VTPM_TRY(check(approval));
    return approval;
}

}  // namespace

Result<BootPolicy> BootPolicy::parse(std::string_view text) {
    VTPM_ASSIGN(const JsonObject object, JsonObject::parse(text, kMaxSize, "a boot policy"));
    VTPM_TRY(object.require_format(kFormat, kFields));
    VTPM_ASSIGN(BootApproval approval, approval_of(object));
    BootPolicy policy(std::move(approval));
    VTPM_ASSIGN(policy.approver_, object.fingerprint("approver"));
    VTPM_ASSIGN(policy.tpm_signature_, object.bytes("tpm_signature", kMaxSignature));
    VTPM_ASSIGN(policy.document_signature_, object.bytes("document_signature", kMaxSignature));
    return policy;
}

std::string BootPolicy::to_json() const {
    Json values = Json::object();
    for (const auto &[pcr, value] : approval_.values) values[std::to_string(pcr)] = to_hex(value);
    Json object{{"format", kFormat},
                {"group", approval_.group},
                {"generation", approval_.generation},
                {"pcrs", approval_.pcrs.to_string()},
                {"values", std::move(values)}};
    if (approval_.not_after) object["not_after"] = to_utc(*approval_.not_after);
    object["approver"] = approver_;
    object["tpm_signature"] = to_base64(tpm_signature_);
    object["document_signature"] = to_base64(document_signature_);
    return object.dump(4) + "\n";
}

}  // namespace vtpm
