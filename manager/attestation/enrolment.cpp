// SPDX-License-Identifier: Apache-2.0
#include "manager/attestation/enrolment.hpp"

#include <openssl/rand.h>

#include <array>

#include "manager/ca/ek_certificate.hpp"
#include "manager/crypto/der.hpp"
#include "manager/crypto/encoding.hpp"
#include "manager/crypto/json_object.hpp"
#include "manager/tpm/attestation_key.hpp"
#include "manager/tpm/credential.hpp"
#include "manager/tpm/public_area.hpp"

namespace vtpm {
namespace {

constexpr std::size_t kMaxFile = 65'536;
constexpr std::size_t kMaxEkCertificate = 8192;
constexpr std::size_t kMaxEkChain = 24'576;
constexpr std::size_t kMaxBlob = 1024;
constexpr std::string_view kHostFormat = "xen-vtpm-host-1";
constexpr std::array<std::string_view, 5> kHostFields = {"format", "endorsement_key", "endorsement_certificate",
                                                         "endorsement_chain", "attestation_key"};
constexpr std::string_view kChallengeFormat = "xen-vtpm-challenge-1";
constexpr std::array<std::string_view, 4> kChallengeFields = {"format", "endorsement_key", "credential", "secret"};

bool is_for_endorsement_keys(const EXTENDED_KEY_USAGE *purposes) {
    for (int i = 0; i < sk_ASN1_OBJECT_num(purposes); ++i) {
        std::array<char, 64> text{};
        OBJ_obj2txt(text.data(), text.size(), sk_ASN1_OBJECT_value(purposes, i), 1);
        if (std::string_view(text.data()) == kEkCertificate) return true;
    }
    return false;
}

// A maker's CA may certify other keys than TPMs'. Certificates of old TPMs name no purpose.
Result<> check_purpose(X509 *certificate) {
    if ((X509_get_extension_flags(certificate) & EXFLAG_CA) != 0)
        return fail(ErrorCode::kRefused, "the TPM's certificate is a CA's, not one for an endorsement key");
    int found = 0;
    const KeyUsages purposes(
        static_cast<EXTENDED_KEY_USAGE *>(X509_get_ext_d2i(certificate, NID_ext_key_usage, &found, nullptr)));
    const bool absent = !purposes && found == -1;
    if (absent || (purposes && is_for_endorsement_keys(purposes.get()))) return {};
    return fail(
        ErrorCode::kRefused,
        "the TPM's certificate is for another purpose than an endorsement key (its extended key usage is not {})",
        kEkCertificate);
}

bool is_for(X509 *certificate, const EndorsementKey &key) {
    const EVP_PKEY *certified = X509_get0_pubkey(certificate);
    return certified != nullptr && EVP_PKEY_eq(certified, key.key.get()) == 1;
}

Result<> check_certificate(const HostIdentity &host, const EndorsementKey &key, const Makers &makers,
                           std::int64_t now) {
    if (host.endorsement_certificate.empty())
        return fail(ErrorCode::kRefused,
                    "the host's TPM has no certificate of its maker: get that (host identity --ek-certificate), or "
                    "compare its endorsement key with what you know of the machine, and say --any-tpm");
    const auto certificate = certificate_from(host.endorsement_certificate);
    if (!certificate) return fail(ErrorCode::kRefused, "the TPM's certificate: {}", certificate.error().text);
    if (!is_for(certificate->get(), key))
        return fail(ErrorCode::kRefused, "the TPM's certificate is not for its endorsement key");
    VTPM_TRY(check_purpose(certificate->get()));
    std::vector<Certificate> between;
    if (!host.endorsement_chain.empty()) {
        auto chain = certificates_from(host.endorsement_chain);
        if (!chain) return fail(ErrorCode::kRefused, "the chain of the TPM's certificate: {}", chain.error().text);
        between = std::move(*chain);
    }
    const auto verified =
        verify_chain(certificate->get(), makers.certificates, now, Strict::kNo, between, makers.revoked);
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
    if (!host.endorsement_chain.empty()) object["endorsement_chain"] = to_base64(host.endorsement_chain);
    object["attestation_key"] = to_base64(host.attestation_key);
    return object.dump(4) + "\n";
}

Result<HostIdentity> parse_host_identity(std::string_view text) {
    VTPM_ASSIGN(const JsonObject object, JsonObject::parse(text, kMaxFile, "a host's identity"));
    VTPM_TRY(object.require_format(kHostFormat, kHostFields));
    HostIdentity host;
    VTPM_ASSIGN(host.endorsement_key, object.bytes("endorsement_key", kMaxArea));
    VTPM_ASSIGN(host.attestation_key, object.bytes("attestation_key", kMaxArea));
    if (object.has("endorsement_certificate")) {
        VTPM_ASSIGN(host.endorsement_certificate, object.bytes("endorsement_certificate", kMaxEkCertificate));
    }
    if (object.has("endorsement_chain")) {
        VTPM_ASSIGN(host.endorsement_chain, object.bytes("endorsement_chain", kMaxEkChain));
    }
    return host;
}

Result<> use_certificate(HostIdentity &host, const std::vector<Certificate> &certificates) {
    VTPM_ASSIGN(const EndorsementKey key, endorsement_key(host.endorsement_key));
    if (certificates.empty() || !is_for(certificates.front().get(), key))
        return fail(ErrorCode::kRefused, "the certificate is not for the endorsement key of this host's TPM");
    host.endorsement_certificate = der_of(i2d_X509, certificates.front().get());
    host.endorsement_chain.clear();
    for (std::size_t i = 1; i < certificates.size(); ++i) {
        const Bytes one = der_of(i2d_X509, certificates[i].get());
        host.endorsement_chain.insert(host.endorsement_chain.end(), one.begin(), one.end());
    }
    if (host.endorsement_certificate.size() > kMaxEkCertificate || host.endorsement_chain.size() > kMaxEkChain)
        return fail(ErrorCode::kInvalid, "the certificates have more bytes than an identity has room for");
    return {};
}

Result<EkTemplate> certified_template(X509 *certificate) {
    const EVP_PKEY *key = X509_get0_pubkey(certificate);
    if (key != nullptr && EVP_PKEY_is_a(key, "RSA") == 1) return EkTemplate::kRsa2048;
    if (key != nullptr && EVP_PKEY_is_a(key, "EC") == 1) return EkTemplate::kEccP256;
    return fail(ErrorCode::kInvalid, "the certificate is for no RSA or ECC key");
}

Result<Challenge> challenge(const HostIdentity &host, const std::optional<Makers> &makers, std::int64_t now) {
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
