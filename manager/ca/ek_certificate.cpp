// SPDX-License-Identifier: Apache-2.0
#include "manager/ca/ek_certificate.hpp"

#include <algorithm>
#include <string_view>

#include "manager/crypto/der.hpp"
#include "manager/crypto/x509.hpp"

namespace vtpm {
namespace {

// TCG EK Credential Profile, 4.
constexpr const char *kTpmManufacturer = "2.23.133.2.1";
constexpr const char *kTpmModel = "2.23.133.2.2";
constexpr const char *kTpmVersion = "2.23.133.2.3";
constexpr const char *kTpmSpecification = "2.23.133.2.16";

constexpr std::string_view kFamily = "2.0";
constexpr std::uint32_t kLevel = 0;
constexpr std::size_t kMaxModel = 64;

using GeneralName = std::unique_ptr<GENERAL_NAME, FreeWith<GENERAL_NAME_free>>;
using GeneralNames = std::unique_ptr<GENERAL_NAMES, FreeWith<GENERAL_NAMES_free>>;

bool four_bytes(std::string_view text) {
    constexpr std::string_view kPrefix = "id:";
    return text.starts_with(kPrefix) && text.size() == kPrefix.size() + 8 &&
           text.substr(kPrefix.size()).find_first_not_of("0123456789ABCDEF") == std::string_view::npos;
}

Result<> check(const TpmDescription &tpm) {
    const bool printable = std::ranges::all_of(tpm.model, [](char c) { return c >= ' ' && c <= '~'; });
    if (!four_bytes(tpm.manufacturer) || !four_bytes(tpm.version) || tpm.model.empty() || !printable ||
        tpm.model.size() > kMaxModel)
        return fail(ErrorCode::kInvalid, "a TPM cannot be of manufacturer, model and version '{}', '{}', '{}'",
                    tpm.manufacturer, tpm.model, tpm.version);
    return {};
}

Result<Certificate> ca_of(ByteView der, const CaKey &key) {
    auto certificate = certificate_from(der);
    if (!certificate) return fail(ErrorCode::kInvalid, "the CA's certificate: {}", certificate.error().text);
    const EVP_PKEY *certified = X509_get0_pubkey(certificate->get());
    if (certified == nullptr || EVP_PKEY_eq(certified, key.public_key.get()) != 1)
        return fail(ErrorCode::kInvalid, "the CA's certificate is not for the CA's key");
    return certificate;
}

bool add(X509_NAME *name, const char *type, const std::string &value) {
    const Asn1Object object(OBJ_txt2obj(type, 1));
    return object && X509_NAME_add_entry_by_OBJ(name, object.get(), V_ASN1_UTF8STRING, bytes_of(value).data(),
                                                static_cast<int>(value.size()), -1, 0) == 1;
}

// 3.2.9. Not critical, as there is a subject: many verifiers know no names like these.
bool add_alternative_name(X509 *certificate, const TpmDescription &tpm) {
    DistinguishedName directory(X509_NAME_new());
    if (!directory || !add(directory.get(), kTpmManufacturer, tpm.manufacturer) ||
        !add(directory.get(), kTpmModel, tpm.model) || !add(directory.get(), kTpmVersion, tpm.version))
        return false;
    GeneralName name(GENERAL_NAME_new());
    const GeneralNames names(GENERAL_NAMES_new());
    if (!name || !names) return false;
    GENERAL_NAME_set0_value(name.get(), GEN_DIRNAME, directory.release());
    if (sk_GENERAL_NAME_push(names.get(), name.get()) <= 0) return false;
    (void)name.release();
    return X509_add1_ext_i2d(certificate, NID_subject_alt_name, names.get(), 0, X509V3_ADD_DEFAULT) == 1;
}

// 3.2: SubjectDirectoryAttributes of one attribute, TPMSpecification.
bool add_specification(X509 *certificate, std::uint32_t revision) {
    const Bytes specification = der_element(V_ASN1_SEQUENCE, {der_element(V_ASN1_UTF8STRING, {bytes_of(kFamily)}),
                                                              der_integer(kLevel), der_integer(revision)});
    const Bytes attribute =
        der_element(V_ASN1_SEQUENCE, {der_object(kTpmSpecification), der_element(V_ASN1_SET, {specification})});
    const Bytes attributes = der_element(V_ASN1_SEQUENCE, {attribute});
    const Asn1OctetString content(ASN1_OCTET_STRING_new());
    if (!content || ASN1_OCTET_STRING_set(content.get(), attributes.data(), static_cast<int>(attributes.size())) != 1)
        return false;
    const Extension extension(
        X509_EXTENSION_create_by_NID(nullptr, NID_subject_directory_attributes, 0, content.get()));
    return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

// Its one extended key usage.
bool has_purpose(const X509 *certificate) {
    const Asn1Object purpose(OBJ_txt2obj(kEkCertificate, 1));
    const KeyUsages usages(
        static_cast<EXTENDED_KEY_USAGE *>(X509_get_ext_d2i(certificate, NID_ext_key_usage, nullptr, nullptr)));
    return purpose && usages && sk_ASN1_OBJECT_num(usages.get()) == 1 &&
           OBJ_cmp(sk_ASN1_OBJECT_value(usages.get(), 0), purpose.get()) == 0;
}

// The subject is the UUID, by which the host's tools and the guest's configuration call this TPM; a verifier that only
// shows subjects shows which it is. `describe` adds what says which TPM is behind the key.
template <typename Describe>
Result<Bytes> issue(const EndorsementKey &ek, const Uuid &vtpm, ByteView ca_certificate, const CaKey &key,
                    std::int64_t now, Describe describe) {
    VTPM_ASSIGN(const Certificate ca, ca_of(ca_certificate, key));
    VTPM_ASSIGN(const DistinguishedName subject, name_of(vtpm.to_string()));
    VTPM_ASSIGN(const Certificate made, new_certificate(now));
    const bool rsa = ek.kind == EkTemplate::kRsa2048;
    const ExtensionText extensions[] = {
        {NID_authority_key_identifier, "keyid:always"},
        {NID_basic_constraints, "critical,CA:FALSE"},
        {NID_key_usage, rsa ? "critical,keyEncipherment" : "critical,keyAgreement"},
        {NID_ext_key_usage, kEkCertificate},
    };
    X509 *const certificate = made.get();
    if (X509_set_subject_name(certificate, subject.get()) != 1 ||
        X509_set_issuer_name(certificate, X509_get_subject_name(ca.get())) != 1 ||
        X509_set_pubkey(certificate, ek.key.get()) != 1 || !add_extensions(certificate, ca.get(), extensions) ||
        !describe(certificate))
        return openssl_failed("making an endorsement key's certificate");
    return sign_certificate(certificate, key);
}

bool copy_extension(X509 *to, const X509 *from, int nid) {
    const int place = X509_get_ext_by_NID(from, nid, -1);
    return place >= 0 && X509_add_ext(to, X509_get_ext(from, place), -1) == 1;
}

}  // namespace

Result<Bytes> ek_certificate(const EndorsementKey &ek, const Uuid &vtpm, const TpmDescription &tpm,
                             ByteView ca_certificate, const CaKey &key, std::int64_t now) {
    VTPM_TRY(check(tpm));
    return issue(ek, vtpm, ca_certificate, key, now, [&](X509 *certificate) {
        return add_alternative_name(certificate, tpm) && add_specification(certificate, tpm.revision);
    });
}

Result<Bytes> ek_certificate_again(ByteView former, const EndorsementKey &ek, const Uuid &vtpm, ByteView ca_certificate,
                                   const CaKey &key, std::int64_t now) {
    VTPM_ASSIGN(const Certificate before, certificate_from(former));
    VTPM_TRY(check_ek_certificate(before.get(), ek, vtpm));
    return issue(ek, vtpm, ca_certificate, key, now, [&](X509 *certificate) {
        return copy_extension(certificate, before.get(), NID_subject_alt_name) &&
               copy_extension(certificate, before.get(), NID_subject_directory_attributes);
    });
}

Result<> check_ek_certificate(X509 *certificate, const EndorsementKey &ek, const Uuid &vtpm) {
    const auto refused = [](const char *why) { return fail(ErrorCode::kRefused, "a certificate {}", why); };
    VTPM_ASSIGN(const DistinguishedName subject, name_of(vtpm.to_string()));
    if (der_of(i2d_X509_NAME, X509_get_subject_name(certificate)) != der_of(i2d_X509_NAME, subject.get()))
        return refused("is of another vTPM");
    const EVP_PKEY *certified = X509_get0_pubkey(certificate);
    if (certified == nullptr || EVP_PKEY_eq(certified, ek.key.get()) != 1) return refused("is for another key");
    if (!has_purpose(certificate)) return refused("is not for an endorsement key");
    return {};
}

}  // namespace vtpm
