// SPDX-License-Identifier: Apache-2.0
// The file of a launch approval: one JSON object. Read as strictly as it is written, for it comes from outside.
#include <array>

#include "manager/boot/launch_approval.hpp"
#include "manager/boot/pcr_json.hpp"
#include "manager/crypto/encoding.hpp"
#include "manager/crypto/json_object.hpp"

namespace vtpm {
namespace {

constexpr std::string_view kApprovalFormat = "xen-vtpm-launch-approval-1";
constexpr std::array<std::string_view, 7> kApprovalFields = {"format",   "group",    "generation", "vtpms",
                                                             "launches", "approver", "signature"};
constexpr std::array<std::string_view, 3> kLaunchFields = {"label", "pcrs", "values"};

Result<std::vector<Uuid>> vtpms_of(const JsonObject &object) {
    VTPM_ASSIGN(const auto texts, object.texts("vtpms", LaunchApproval::kMaxVtpms));
    std::vector<Uuid> vtpms;
    for (const std::string &text : texts) {
        const auto uuid = Uuid::parse(text);
        if (!uuid || uuid->to_string() != text)
            return object.invalid("must have UUIDs in 'vtpms', in small letters: '{}' is none", printable(text));
        vtpms.push_back(*uuid);
    }
    return vtpms;
}

Result<std::vector<ApprovedLaunch>> launches_of(const JsonObject &object) {
    VTPM_ASSIGN(const auto objects, object.objects("launches", LaunchApproval::kMaxLaunches));
    std::vector<ApprovedLaunch> launches;
    for (const JsonObject &one : objects) {
        VTPM_TRY(one.require_only(kLaunchFields));
        ApprovedLaunch launch;
        VTPM_ASSIGN(launch.label, one.text("label"));
        VTPM_ASSIGN(launch.pcrs, pcrs_in(one));
        VTPM_ASSIGN(launch.values, values_in(one, launch.pcrs));
        launches.push_back(std::move(launch));
    }
    return launches;
}

Json json_of(const ApprovedLaunch &launch) {
    Json values = Json::object();
    for (const auto &[pcr, value] : launch.values) values[std::to_string(pcr)] = to_hex(value);
    return {{"label", launch.label}, {"pcrs", launch.pcrs.to_string()}, {"values", std::move(values)}};
}

}  // namespace

Result<LaunchApproval> LaunchApproval::parse(std::string_view text) {
    VTPM_ASSIGN(const JsonObject object, JsonObject::parse(text, kMaxSize, "a launch approval"));
    VTPM_TRY(object.require_format(kApprovalFormat, kApprovalFields));
    LaunchTerms terms;
    VTPM_ASSIGN(terms.group, object.text("group"));
    VTPM_ASSIGN(terms.generation, object.number("generation"));
    VTPM_ASSIGN(terms.vtpms, vtpms_of(object));
    VTPM_ASSIGN(terms.launches, launches_of(object));
    VTPM_TRY(check(terms));
    LaunchApproval approval(std::move(terms));
    VTPM_ASSIGN(approval.approver_, object.fingerprint("approver"));
    VTPM_ASSIGN(approval.signature_, object.bytes("signature", kMaxSignature));
    return approval;
}

std::string LaunchApproval::to_json() const {
    Json vtpms = Json::array();
    for (const Uuid &vtpm : terms_.vtpms) vtpms.push_back(vtpm.to_string());
    Json launches = Json::array();
    for (const ApprovedLaunch &launch : terms_.launches) launches.push_back(json_of(launch));
    const Json object{{"format", kApprovalFormat},         {"group", terms_.group},
                      {"generation", terms_.generation},   {"vtpms", std::move(vtpms)},
                      {"launches", std::move(launches)},   {"approver", approver_},
                      {"signature", to_base64(signature_)}};
    return object.dump(4) + "\n";
}

}  // namespace vtpm
