// SPDX-License-Identifier: Apache-2.0
#include "manager/attestation/enrolment.hpp"

#include <openssl/rand.h>

#include <array>

#include "manager/attestation/attestation_key.hpp"
#include "manager/attestation/credential.hpp"
#include "manager/ca/endorsement_key.hpp"
#include "manager/policy/encoding.hpp"
#include "manager/policy/json_object.hpp"
#include "manager/policy/public_area.hpp"

namespace vtpm {
namespace {

constexpr std::size_t kMaxFile = 65'536;
constexpr std::size_t kMaxEkCertificate = 8192;
constexpr std::size_t kMaxBlob = 1024;
constexpr std::string_view kHostFormat = "xen-vtpm-host-1";
constexpr std::array<std::string_view, 4> kHostFields = {"format", "endorsement_key", "endorsement_certificate",
                                                         "attestation_key"};
constexpr std::string_view kChallengeFormat = "xen-vtpm-challenge-1";
constexpr std::array<std::string_view, 4> kChallengeFields = {"format", "endorsement_key", "credential", "secret"};

Result<> check_certificate(const HostIdentity &host, const EndorsementKey &key, const std::vector<Certificate> &makers,
                           std::int64_t now) {
    if (host.endorsement_certificate.empty())
        return fail(ErrorCode::kRefused,
                    "the host's TPM has no certificate of its maker: compare its endorsement key "
                    "with what you know of the machine, and say --any-tpm");
    const auto certificate = certificate_from(host.endorsement_certificate);
    if (!certificate) return fail(ErrorCode::kRefused, "the TPM's certificate: {}", certificate.error().text);
    const EVP_PKEY *certified = X509_get0_pubkey(certificate->get());
    if (certified == nullptr || EVP_PKEY_eq(certified, key.key.get()) != 1)
        return fail(ErrorCode::kRefused, "the TPM's certificate is not for its endorsement key");
    const auto verified = verify_chain(certificate->get(), makers, now, Strict::kNo);
    if (!verified)
        return fail(ErrorCode::kRefused, "the TPM's certificate does not lead to the makers that you trust: {}",
                    verified.error().text);
    return {};
}

}  // namespace

std::string to_json(const HostIdentity &host) {
    Json object{{"format", kHostFormat}, {"endorsement_key", to_base64(host.endorsement_key)}};
    if (!host.endorsement_certificate.empty())
        object["endorsement_certificate"] = to_base64(host.endorsement_certificate);
    object["attestation_key"] = to_base64(host.attestation_key);
    return object.dump(4) + "\n";
}

Result<HostIdentity> parse_host_identity(std::string_view text) {
    VTPM_ASSIGN(const JsonObject object, JsonObject::parse(text, kMaxFile, "a host's identity"));
    VTPM_TRY(object.require_format(kHostFormat, kHostFields));
    HostIdentity host;
    VTPM_ASSIGN(host.endorsement_key, object.bytes("endorsement_key", kMaxArea));
    VTPM_ASSIGN(host.attestation_key, object.bytes("attestation_key", kMaxArea));
    if (!object.has("endorsement_certificate")) return host;
    VTPM_ASSIGN(host.endorsement_certificate, object.bytes("endorsement_certificate", kMaxEkCertificate));
    return host;
}

Result<Challenge> challenge(const HostIdentity &host, const std::optional<std::vector<Certificate>> &makers,
                            std::int64_t now) {
    const auto key = endorsement_key(host.endorsement_key);
    if (!key || key->kind == EkTemplate::kEccP384)
        return fail(ErrorCode::kRefused, "the host's endorsement key is of no default template");
    const auto attestation_key = area_of_form(host.attestation_key, attestation_key_form());
    if (!attestation_key || !openssl_key(*attestation_key))
        return fail(ErrorCode::kRefused, "the host's attestation key could sign what no TPM said");
    if (makers) VTPM_TRY(check_certificate(host, *key, *makers, now));
    Challenge made;
    if (RAND_priv_bytes(made.answer.writable().data(), static_cast<int>(made.answer.view().size())) != 1)
        return openssl_failed("RAND_priv_bytes");
    VTPM_ASSIGN(made.credential, make_credential(*key, tpm_name(*attestation_key), made.answer.view()));
    return made;
}

std::string to_json(const Credential &credential) {
    const Json object{{"format", kChallengeFormat},
                      {"endorsement_key", to_base64(credential.endorsement_key)},
                      {"credential", to_base64(credential.id_object)},
                      {"secret", to_base64(credential.encrypted_secret)}};
    return object.dump(4) + "\n";
}

Result<Credential> parse_credential(std::string_view text) {
    VTPM_ASSIGN(const JsonObject object, JsonObject::parse(text, kMaxFile, "a challenge"));
    VTPM_TRY(object.require_format(kChallengeFormat, kChallengeFields));
    Credential credential;
    VTPM_ASSIGN(credential.endorsement_key, object.bytes("endorsement_key", kMaxArea));
    VTPM_ASSIGN(credential.id_object, object.bytes("credential", kMaxBlob));
    VTPM_ASSIGN(credential.encrypted_secret, object.bytes("secret", kMaxBlob));
    return credential;
}

}  // namespace vtpm
