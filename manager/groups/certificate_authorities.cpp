// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/certificate_authorities.hpp"

#include <openssl/sha.h>
#include <openssl/x509.h>

#include <ctime>

#include "base/log.hpp"
#include "manager/ca/ca_certificate.hpp"
#include "manager/ca/clock.hpp"
#include "manager/ca/endorsement.hpp"
#include "manager/ca/signed_ca.hpp"
#include "manager/crypto/der.hpp"
#include "manager/crypto/encoding.hpp"
#include "manager/crypto/pem.hpp"
#include "manager/crypto/x509.hpp"
#include "manager/hardware_tpm/marshal.hpp"
#include "manager/tpm/public_area.hpp"

namespace vtpm {
namespace {

constexpr std::size_t kEntropy = 32;  // of a seed's security strength, in bytes

Bytes sha256(ByteView bytes) {
    Bytes digest(SHA256_DIGEST_LENGTH);
    SHA256(bytes.data(), bytes.size(), digest.data());
    return digest;
}

// Of its key, so that two CAs never have one name (RFC 5280, 4.1.2.4).
std::string common_name_of(const EVP_PKEY *key) {
    constexpr std::size_t kPart = 16;
    const Bytes digest = sha256(der_of(i2d_PUBKEY, key));
    return "xen-vtpm CA " + to_hex(ByteView(digest).first(kPart));
}

// A certificate is valid from now on.
void say_if_clock_is_doubtful(const std::string &whose, const std::string &remedy = {}) {
    if (const std::string why = doubt_of_clock(); !why.empty())
        log::warning("{} is certified as of a clock that may be wrong: {}{}", whose, why, remedy);
}
void say_if_clock_is_doubtful(const Uuid &vtpm) {
    const std::string uuid = vtpm.to_string();
    say_if_clock_is_doubtful("vTPM " + uuid, "; when it is right: xen-vtpm reissue " + uuid);
}

// The root is not among them: who trusts it has it.
Result<Bytes> chain_of(const OpenCa &ca) {
    VTPM_ASSIGN(const Certificate own, certificate_from(ca.certificate));
    return X509_self_signed(own.get(), 0) == 1 ? Bytes() : ca.record.certificates;
}

Result<EvpKey> public_key_of(const TpmKey &key) {
    VTPM_ASSIGN(const auto area, unmarshalled<TPM2B_PUBLIC>(key.public_area, Tss2_MU_TPM2B_PUBLIC_Unmarshal));
    EvpKey opened = openssl_key(area.publicArea);
    if (!opened) return fail(ErrorCode::kRefused, "the CA's key in the store is damaged");
    return opened;
}

}  // namespace

Result<CaKey> OpenCa::key() const {
    VTPM_ASSIGN(EvpKey public_key, public_key_of(record.key));
    return CaKey{std::move(public_key),
                 [this](ByteView digest) { return sealer->sign(record.key, authorization, digest); }};
}

Result<OpenCa> CertificateAuthorities::open(const std::string &group) {
    VTPM_ASSIGN(const Key *group_key, keys_.key(group));
    VTPM_ASSIGN(Key authorization, ca_authorization(*group_key));
    VTPM_ASSIGN(auto sealer, keys_.sealer());
    VTPM_ASSIGN(GroupRecord record, keys_.record(group));
    if (record.ca.certificates.empty()) {
        VTPM_ASSIGN(record.ca, create(group, *sealer, authorization));
    }
    VTPM_ASSIGN(const EvpKey public_key, public_key_of(record.ca.key));
    VTPM_ASSIGN(const auto certificates, certificates_from(record.ca.certificates));
    return OpenCa{std::move(sealer), std::move(authorization), std::move(record.ca), common_name_of(public_key.get()),
                  der_of(i2d_X509, certificates.front().get())};
}

// The TPM is reached only where the CA is yet to be made.
Result<CaRecord> CertificateAuthorities::record(const std::string &group) {
    VTPM_TRY(keys_.key(group));
    VTPM_ASSIGN(GroupRecord record, keys_.record(group));
    if (!record.ca.certificates.empty()) return std::move(record.ca);
    VTPM_ASSIGN(OpenCa ca, open(group));
    return std::move(ca.record);
}

Result<CaRecord> CertificateAuthorities::create(const std::string &group, Sealer &sealer, const Key &authorization) {
    CaRecord ca;
    VTPM_ASSIGN(ca.key, sealer.create_signing_key(authorization));
    VTPM_ASSIGN(EvpKey public_key, public_key_of(ca.key));
    const std::string name = common_name_of(public_key.get());
    const CaKey key{std::move(public_key), [&](ByteView digest) { return sealer.sign(ca.key, authorization, digest); }};
    VTPM_ASSIGN(ca.certificates, self_signed_ca(name, key, std::time(nullptr)));
    VTPM_TRY(inventory_.set_ca(group, ca, "ca-created"));
    log::info("group '{}' has a CA: {}", group, name);
    say_if_clock_is_doubtful("the CA of group '" + group + "'");
    return ca;
}

Result<std::unique_ptr<Manufacture>> CertificateAuthorities::manufacture(const VtpmRecord &vtpm) {
    VTPM_ASSIGN(const auto sealer, keys_.sealer());
    VTPM_ASSIGN(const SecretBytes entropy, sealer->random(kEntropy));
    Manufacture::Certify certify;
    if (enabled_ && sealer->has_signing_keys())
        certify = [this, group = vtpm.group, uuid = vtpm.uuid](const std::vector<EndorsementKey> &keys,
                                                               const TpmDescription &tpm) {
            return this->certify(group, uuid, keys, tpm);
        };
    return std::make_unique<Manufacture>(entropy.view(), vtpm.profile, std::move(certify));
}

Result<Certificates> CertificateAuthorities::certify(const std::string &group, const Uuid &vtpm,
                                                     const std::vector<EndorsementKey> &keys,
                                                     const TpmDescription &tpm) {
    VTPM_ASSIGN(const OpenCa ca, open(group));
    VTPM_ASSIGN(const CaKey key, ca.key());
    Certificates certificates;
    for (const EndorsementKey &ek : keys) {
        VTPM_ASSIGN(Bytes certificate, ek_certificate(ek, vtpm, tpm, ca.certificate, key, std::time(nullptr)));
        certificates.endorsement.push_back(std::move(certificate));
    }
    VTPM_ASSIGN(certificates.chain, chain_of(ca));
    say_if_clock_is_doubtful(vtpm);
    return certificates;
}

Result<std::unique_ptr<Reissue>> CertificateAuthorities::reissue(const VtpmRecord &vtpm) {
    VTPM_ASSIGN(const Endorsement former, decode_endorsement(vtpm.endorsement));
    VTPM_ASSIGN(const OpenCa ca, open(vtpm.group));
    VTPM_ASSIGN(const CaKey key, ca.key());
    std::vector<CertifiedKey> keys;
    std::vector<EkTemplate> kinds;
    for (const CertifiedKey &before : former.keys) {
        VTPM_ASSIGN(const EndorsementKey ek, endorsement_key(before.public_area));
        VTPM_ASSIGN(Bytes certificate,
                    ek_certificate_again(before.certificate, ek, vtpm.uuid, ca.certificate, key, std::time(nullptr)));
        keys.push_back({before.public_area, std::move(certificate)});
        kinds.push_back(ek.kind);
    }
    VTPM_ASSIGN(const Bytes chain, chain_of(ca));
    say_if_clock_is_doubtful(vtpm.uuid);
    return std::make_unique<Reissue>(keys, kinds, chain);
}

Result<CaInfo> CertificateAuthorities::show(const std::string &group) {
    VTPM_ASSIGN(const CaRecord ca, record(group));
    VTPM_ASSIGN(const auto certificates, certificates_from(ca.certificates));
    X509 *const own = certificates.front().get();
    std::string pem;
    for (const Certificate &certificate : certificates)
        pem += to_pem("CERTIFICATE", der_of(i2d_X509, certificate.get()));
    return CaInfo{group,
                  one_line(X509_get_subject_name(own)),
                  one_line(X509_get_issuer_name(own)),
                  X509_self_signed(own, 0) == 1,
                  to_hex(sha256(der_of(i2d_X509, own))),
                  std::move(pem)};
}

Result<std::string> CertificateAuthorities::request(const std::string &group) {
    VTPM_ASSIGN(const OpenCa ca, open(group));
    VTPM_ASSIGN(const CaKey key, ca.key());
    VTPM_ASSIGN(const Bytes request, ca_request(ca.common_name, key));
    return to_pem("CERTIFICATE REQUEST", request);
}

Result<> CertificateAuthorities::import_signed(const std::string &group, std::string_view pem) {
    VTPM_ASSIGN(CaRecord ca, record(group));
    VTPM_ASSIGN(EvpKey public_key, public_key_of(ca.key));
    const std::string name = common_name_of(public_key.get());
    // The TPM is asked only about a certificate that is good so far.
    const CaKey key{std::move(public_key), [&](ByteView digest) -> Result<Bytes> {
                        VTPM_ASSIGN(const OpenCa opened, open(group));
                        return opened.sealer->sign(ca.key, opened.authorization, digest);
                    }};
    VTPM_ASSIGN(ca.certificates, signed_ca_from_pem(bytes_of(pem), name, key, std::time(nullptr)));
    return inventory_.set_ca(group, ca, "ca-certificate-imported");
}

}  // namespace vtpm
