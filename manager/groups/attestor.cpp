// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/attestor.hpp"

#include <ctime>

#include "base/log.hpp"
#include "manager/boot/present_boot.hpp"
#include "manager/ca/endorsement.hpp"
#include "manager/crypto/encoding.hpp"
#include "manager/groups/audit.hpp"

namespace vtpm {
namespace {

constexpr std::string_view kFirmwarePcrs = "sha256:0,1,2,3,4,5,6,7";

Result<VtpmRecord> attestable(Store &store, const Uuid &uuid) {
    VTPM_ASSIGN(auto vtpm, store.find_vtpm(uuid));
    if (!vtpm) return fail(ErrorCode::kNotFound, "vTPM {} is unknown", uuid.to_string());
    if (vtpm->version == TpmVersion::k12)
        return fail(ErrorCode::kWrongState,
                    "vTPM {} is a TPM 1.2: it has no certified endorsement keys to be told by, and no event log, so "
                    "nothing of it, or of its guest's launch, can be attested; its launch is in its PCRs (xen-vtpm "
                    "launch predict --pcrs sha1:4,8,9,11,12)",
                    uuid.to_string());
    if (vtpm->endorsement.empty())
        return fail(ErrorCode::kWrongState,
                    "vTPM {} has no certified endorsement keys to be told by: it did not run yet, or was made with "
                    "ek_certificates = false",
                    uuid.to_string());
    return std::move(*vtpm);
}

// The approver's policy for the boot that this host is in; nothing, if there is none.
Result<std::optional<BootPolicy>> present_approval(Store &store, Sealer &sealer, const KeyPolicy &policy) {
    if (!policy.approver) return std::nullopt;
    VTPM_ASSIGN(const auto approvals, approvals_of(store, policy));
    const auto read = [&](const PcrSelection &pcrs) { return sealer.read(pcrs); };
    const auto approval = approval_of_present_boot(approvals, *policy.approver, read, std::time(nullptr));
    if (!approval && approval.error().code == ErrorCode::kRefused) return std::nullopt;
    if (!approval) return tl::make_unexpected(approval.error());
    return **approval;
}

}  // namespace

Result<Attestation> Attestor::attest(const Uuid &uuid, Bytes nonce, const std::optional<PcrSelection> &pcrs,
                                     Asked asked) {
    VTPM_ASSIGN(const VtpmRecord vtpm, attestable(store_, uuid));
    VTPM_ASSIGN(Manifest *const manifest, keys_.manifest(vtpm.group));
    VTPM_TRY(manifest->verify(vtpm));
    VTPM_ASSIGN(const KeyPolicy policy, keys_.policy(vtpm.group));
    VTPM_ASSIGN(const OpenCa ca, authorities_.open(vtpm.group));
    VTPM_ASSIGN(const auto approval, present_approval(store_, *ca.sealer, policy));

    Attestation attestation;
    attestation.nonce = std::move(nonce);
    attestation.vtpm = uuid;
    attestation.group = vtpm.group;
    attestation.generation = policy.generation;
    if (policy.approver) attestation.approver = policy.approver->fingerprint();
    if (approval) attestation.boot_policy = approval->to_json();
    VTPM_ASSIGN(attestation.pcrs, PcrSelection::parse(kFirmwarePcrs));
    if (!policy.pcrs.empty()) attestation.pcrs = policy.pcrs;
    if (approval) attestation.pcrs = approval->approval().pcrs;
    if (pcrs) attestation.pcrs = *pcrs;
    attestation.ca_key = ca.record.key.public_area;
    attestation.ca_certificate = ca.certificate;
    VTPM_ASSIGN(Endorsement endorsement, decode_endorsement(vtpm.endorsement));
    attestation.endorsement_keys = std::move(endorsement.keys);
    attestation.event_log_digest = vtpm.event_log_digest;
    VTPM_ASSIGN(const Bytes bound, attestation.bound_data());
    VTPM_ASSIGN(attestation.host, ca.sealer->attest(attestation.pcrs, ca.record.key, ca.authorization, bound));
    VTPM_TRY(record(attestation, asked));
    return attestation;
}

// A guest may ask every few seconds for years: that it asks is recorded once while we run, each time in the journal.
Result<> Attestor::record(const Attestation &attestation, Asked asked) {
    const std::string uuid = attestation.vtpm.to_string();
    const bool guest = asked == Asked::kByTheGuest;
    log::info("vTPM {} attested to {}, nonce {}", uuid, guest ? "its guest" : "the administrator",
              to_hex(attestation.nonce));
    if (guest && !recorded_.insert(attestation.vtpm).second) return {};
    return Audit(store_).record(
        "attestation-given", uuid,
        guest ? "to its guest, for the first time since the manager's start" : "nonce " + to_hex(attestation.nonce));
}

Result<HostIdentity> Attestor::host(std::optional<EkTemplate> wanted) {
    VTPM_ASSIGN(const auto sealer, keys_.sealer());
    return sealer->host(wanted);
}

Result<SecretBytes> Attestor::answer(const Credential &challenge) {
    VTPM_ASSIGN(const auto sealer, keys_.sealer());
    VTPM_ASSIGN(SecretBytes secret, sealer->activate(challenge));
    VTPM_TRY(Audit(store_).record("challenge-answered", "hardware TPM"));
    return secret;
}

}  // namespace vtpm
