// SPDX-License-Identifier: Apache-2.0
#include "manager/tpm/endorsement_key.hpp"

#include <tss2/tss2_mu.h>

#include <algorithm>
#include <array>

#include "manager/tpm/public_area.hpp"

namespace vtpm {
namespace {

constexpr TPMA_OBJECT kLowAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
                                       TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_ADMINWITHPOLICY |
                                       TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT;
constexpr TPMA_OBJECT kHighAttributes = kLowAttributes | TPMA_OBJECT_USERWITHAUTH;

// PolicyA with SHA-256: PolicySecret(TPM_RH_ENDORSEMENT) (B.6).
constexpr std::uint8_t kPolicyA[] = {0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc,
                                     0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52,
                                     0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa};
// PolicyB with SHA-384: PolicyA, or the policy in an NV index (B.6).
constexpr std::uint8_t kPolicyB[] = {0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc,
                                     0xf5, 0xfd, 0x3a, 0x1a, 0x07, 0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4,
                                     0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca, 0xcb, 0x47, 0xba, 0x09,
                                     0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12};

constexpr std::uint16_t kModulus = 256;  // bytes
constexpr std::uint16_t kP256 = 32;      // bytes of a coordinate
constexpr std::uint16_t kP384 = 48;

constexpr TPMT_SYM_DEF_OBJECT aes_cfb(TPM2_KEY_BITS bits) {
    TPMT_SYM_DEF_OBJECT symmetric{};
    symmetric.algorithm = TPM2_ALG_AES;
    symmetric.keyBits.aes = bits;
    symmetric.mode.aes = TPM2_ALG_CFB;
    return symmetric;
}

void set_policy(TPMT_PUBLIC &area, ByteView policy) {
    area.authPolicy.size = static_cast<UINT16>(policy.size());
    std::ranges::copy(policy, area.authPolicy.buffer);
}

TPMT_PUBLIC rsa_2048() {
    TPMT_PUBLIC area{};
    area.type = TPM2_ALG_RSA;
    area.nameAlg = TPM2_ALG_SHA256;
    area.objectAttributes = kLowAttributes;
    set_policy(area, kPolicyA);
    TPMS_RSA_PARMS &rsa = area.parameters.rsaDetail;
    rsa.symmetric = aes_cfb(128);
    rsa.scheme.scheme = TPM2_ALG_NULL;
    rsa.keyBits = kModulus * 8;
    rsa.exponent = 0;  // 65537 (TCG Part 2, 12.2.3.5)
    area.unique.rsa.size = kModulus;
    return area;
}

TPMT_PUBLIC ecc(TPMI_ECC_CURVE curve, TPM2_KEY_BITS aes_bits) {
    TPMT_PUBLIC area{};
    area.type = TPM2_ALG_ECC;
    TPMS_ECC_PARMS &parameters = area.parameters.eccDetail;
    parameters.symmetric = aes_cfb(aes_bits);
    parameters.scheme.scheme = TPM2_ALG_NULL;
    parameters.curveID = curve;
    parameters.kdf.scheme = TPM2_ALG_NULL;
    return area;
}

TPMT_PUBLIC ecc_p256() {
    TPMT_PUBLIC area = ecc(TPM2_ECC_NIST_P256, 128);
    area.nameAlg = TPM2_ALG_SHA256;
    area.objectAttributes = kLowAttributes;
    set_policy(area, kPolicyA);
    area.unique.ecc.x.size = kP256;
    area.unique.ecc.y.size = kP256;
    return area;
}

// The high templates have nothing in `unique`.
TPMT_PUBLIC ecc_p384() {
    TPMT_PUBLIC area = ecc(TPM2_ECC_NIST_P384, 256);
    area.nameAlg = TPM2_ALG_SHA384;
    area.objectAttributes = kHighAttributes;
    set_policy(area, kPolicyB);
    return area;
}

TPMT_PUBLIC area_of(EkTemplate kind) {
    switch (kind) {
        case EkTemplate::kRsa2048:
            return rsa_2048();
        case EkTemplate::kEccP256:
            return ecc_p256();
        case EkTemplate::kEccP384:
            return ecc_p384();
    }
    require(false, "a template of an endorsement key is one of three");
    return {};
}

// What the key is, but for its numbers; they have these sizes in every template's key.
TPMT_PUBLIC key_form(EkTemplate kind) {
    TPMT_PUBLIC area = area_of(kind);
    if (kind == EkTemplate::kEccP384) area.unique.ecc.x.size = area.unique.ecc.y.size = kP384;
    return area;
}

}  // namespace

Result<EndorsementKey> endorsement_key(ByteView public_area) {
    for (const EkTemplate kind : {EkTemplate::kRsa2048, EkTemplate::kEccP256, EkTemplate::kEccP384}) {
        const auto area = area_of_form(public_area, key_form(kind));
        if (!area) continue;
        EndorsementKey key{kind, *area, openssl_key(*area), tpm_name(*area)};
        if (!key.key) return fail(ErrorCode::kInvalid, "an endorsement key whose numbers are not a key's");
        return key;
    }
    return fail(ErrorCode::kInvalid, "no endorsement key of a default template (RSA-2048, P-256, P-384)");
}

Bytes ek_template(EkTemplate kind) { return marshalled(TPM2B_PUBLIC{0, area_of(kind)}); }

std::uint32_t ek_certificate_index(EkTemplate kind) {
    switch (kind) {
        case EkTemplate::kRsa2048:
            return 0x01c00002;
        case EkTemplate::kEccP256:
            return 0x01c0000a;
        case EkTemplate::kEccP384:
            return 0x01c00016;
    }
    require(false, "a template of an endorsement key is one of three");
    return 0;
}

std::string_view name_of(EkTemplate kind) {
    switch (kind) {
        case EkTemplate::kRsa2048:
            return "rsa-2048";
        case EkTemplate::kEccP256:
            return "ecc-p256";
        case EkTemplate::kEccP384:
            return "ecc-p384";
    }
    return {};
}

std::optional<EkTemplate> host_template_named(std::string_view name) {
    for (const EkTemplate kind : {EkTemplate::kRsa2048, EkTemplate::kEccP256})
        if (name_of(kind) == name) return kind;
    return std::nullopt;
}

}  // namespace vtpm
