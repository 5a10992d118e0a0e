// SPDX-License-Identifier: Apache-2.0
#include "manager/attestation/attestation.hpp"

#include <openssl/sha.h>

#include <array>

#include "base/big_endian.hpp"
#include "manager/boot/pcr_json.hpp"
#include "manager/ca/signed_ca.hpp"
#include "manager/crypto/encoding.hpp"
#include "manager/crypto/json_object.hpp"
#include "manager/tpm/ca_key.hpp"
#include "manager/tpm/endorsement_key.hpp"
#include "manager/tpm/public_area.hpp"
#include "shared-protocol/attest_command.hpp"

namespace vtpm {
namespace {

constexpr std::string_view kFormat = "xen-vtpm-attestation-1";
constexpr std::string_view kBound("xen-vtpm attestation 1\0", 23);
constexpr std::string_view kWhat = "an attestation";
constexpr std::array<std::string_view, 19> kFields = {"format",
                                                      "nonce",
                                                      "vtpm",
                                                      "group",
                                                      "generation",
                                                      "approver",
                                                      "boot_policy",
                                                      "pcrs",
                                                      "values",
                                                      "attestation_key",
                                                      "quote",
                                                      "quote_signature",
                                                      "ca_key",
                                                      "ca_certification",
                                                      "ca_certification_signature",
                                                      "ca_certificate",
                                                      "endorsement_keys",
                                                      "event_log_digest",
                                                      "event_log"};
constexpr std::array<std::string_view, 2> kKeyFields = {"public", "certificate"};
constexpr std::size_t kMaxKeys = 8;
constexpr std::size_t kMaxEventLog = Attestation::kMaxSize;
constexpr std::size_t kMaxStatement = 2048;                  // a TPMS_ATTEST
constexpr std::size_t kMaxCertificate = kMaxCaCertificates;  // another CA's may be long

Result<std::vector<CertifiedKey>> keys_of(const JsonObject &object) {
    VTPM_ASSIGN(const auto members, object.objects("endorsement_keys", kMaxKeys));
    std::vector<CertifiedKey> keys;
    for (const JsonObject &member : members) {
        VTPM_TRY(member.require_only(kKeyFields));
        CertifiedKey key;
        VTPM_ASSIGN(key.public_area, member.bytes("public", kMaxArea));
        VTPM_ASSIGN(key.certificate, member.bytes("certificate", kMaxCertificate));
        keys.push_back(std::move(key));
    }
    return keys;
}

Result<HostEvidence> host_of(const JsonObject &object, const PcrSelection &pcrs) {
    HostEvidence host;
    VTPM_ASSIGN(host.attestation_key, object.bytes("attestation_key", kMaxArea));
    VTPM_ASSIGN(host.values, values_in(object, pcrs));
    VTPM_ASSIGN(host.quote.attested, object.bytes("quote", kMaxStatement));
    VTPM_ASSIGN(host.quote.signature, object.bytes("quote_signature", kMaxStatement));
    VTPM_ASSIGN(host.ca_certification.attested, object.bytes("ca_certification", kMaxStatement));
    VTPM_ASSIGN(host.ca_certification.signature, object.bytes("ca_certification_signature", kMaxStatement));
    return host;
}

}  // namespace

Result<Bytes> nonce_from(std::string_view hexadecimal) {
    auto nonce = from_hex(hexadecimal);
    if (!nonce || nonce->size() < kMinAttestNonce || nonce->size() > kMaxAttestNonce)
        return fail(ErrorCode::kInvalid, "a nonce is {} to {} random bytes in lower-case hexadecimal", kMinAttestNonce,
                    kMaxAttestNonce);
    return std::move(*nonce);
}

std::string Attestation::to_json() const {
    Json values = Json::object();
    for (const auto &[pcr, value] : host.values) values[std::to_string(pcr)] = to_hex(value);
    Json keys = Json::array();
    for (const CertifiedKey &key : endorsement_keys)
        keys.push_back({{"public", to_base64(key.public_area)}, {"certificate", to_base64(key.certificate)}});
    Json object{{"format", kFormat},
                {"nonce", to_hex(nonce)},
                {"vtpm", vtpm.to_string()},
                {"group", group},
                {"generation", generation}};
    if (!approver.empty()) object["approver"] = approver;
    if (!boot_policy.empty()) object["boot_policy"] = boot_policy;
    object["pcrs"] = pcrs.to_string();
    object["values"] = std::move(values);
    object["attestation_key"] = to_base64(host.attestation_key);
    object["quote"] = to_base64(host.quote.attested);
    object["quote_signature"] = to_base64(host.quote.signature);
    object["ca_key"] = to_base64(ca_key);
    object["ca_certification"] = to_base64(host.ca_certification.attested);
    object["ca_certification_signature"] = to_base64(host.ca_certification.signature);
    object["ca_certificate"] = to_base64(ca_certificate);
    object["endorsement_keys"] = std::move(keys);
    if (!event_log_digest.empty()) object["event_log_digest"] = to_hex(event_log_digest);
    if (!event_log.empty()) object["event_log"] = to_base64(event_log);
    return object.dump(4) + "\n";
}

Result<Attestation> Attestation::parse(std::string_view text) {
    VTPM_ASSIGN(const JsonObject object, JsonObject::parse(text, kMaxSize, kWhat));
    VTPM_TRY(object.require_format(kFormat, kFields));
    Attestation attestation;
    VTPM_ASSIGN(const std::string nonce, object.text("nonce"));
    VTPM_ASSIGN(attestation.nonce, nonce_from(nonce));
    VTPM_ASSIGN(const std::string vtpm, object.text("vtpm"));
    const auto uuid = Uuid::parse(vtpm);
    if (!uuid || uuid->to_string() != vtpm) return object.invalid("must have a UUID as 'vtpm'");
    attestation.vtpm = *uuid;
    VTPM_ASSIGN(attestation.group, object.text("group"));
    VTPM_ASSIGN(attestation.generation, object.number("generation"));
    if (object.has("approver")) {
        VTPM_ASSIGN(attestation.approver, object.text("approver"));
    }
    if (object.has("boot_policy")) {
        VTPM_ASSIGN(attestation.boot_policy, object.text("boot_policy"));
    }
    VTPM_ASSIGN(attestation.pcrs, pcrs_in(object));
    VTPM_ASSIGN(attestation.host, host_of(object, attestation.pcrs));
    VTPM_ASSIGN(attestation.ca_key, object.bytes("ca_key", kMaxArea));
    VTPM_ASSIGN(attestation.ca_certificate, object.bytes("ca_certificate", kMaxCertificate));
    VTPM_ASSIGN(attestation.endorsement_keys, keys_of(object));
    if (object.has("event_log_digest")) {
        VTPM_ASSIGN(const std::string digest, object.text("event_log_digest"));
        const auto bytes = from_hex(digest);
        if (!bytes || bytes->size() != SHA256_DIGEST_LENGTH)
            return object.invalid("must have a SHA-256 digest as 'event_log_digest'");
        attestation.event_log_digest = *bytes;
    }
    if (object.has("event_log")) {
        VTPM_ASSIGN(attestation.event_log, object.bytes("event_log", kMaxEventLog));
    }
    return attestation;
}

Result<Bytes> Attestation::bound_data() const {
    const auto ca = area_of_form(ca_key, ca_key_form());
    if (!ca) return fail(ErrorCode::kInvalid, "the CA's key is not one that xen-vtpm makes in a TPM");
    BigEndian bound(kBound);
    bound.field(nonce).raw(vtpm.bytes).field(bytes_of(group)).number(generation, 4).field(bytes_of(approver));
    bound.field(tpm_name(*ca)).field(ca_certificate).number(endorsement_keys.size(), 4);
    for (const CertifiedKey &key : endorsement_keys) {
        VTPM_ASSIGN(const EndorsementKey ek, endorsement_key(key.public_area));
        bound.field(ek.name).field(key.certificate);
    }
    if (!event_log_digest.empty()) bound.field(event_log_digest);
    Bytes digest(SHA256_DIGEST_LENGTH);
    SHA256(bound.bytes().data(), bound.bytes().size(), digest.data());
    return digest;
}

}  // namespace vtpm
