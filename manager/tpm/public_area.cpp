// SPDX-License-Identifier: Apache-2.0
#include "manager/tpm/public_area.hpp"

#include <openssl/core_names.h>
#include <tss2/tss2_mu.h>

#include <algorithm>
#include <array>

namespace vtpm {
namespace {

constexpr std::uint16_t kModuli[] = {2048, 3072};
constexpr BN_ULONG kExponent = 65537;
constexpr const char *kP256Curve = "prime256v1";  // OpenSSL's names
constexpr const char *kP384Curve = "secp384r1";
constexpr std::uint8_t kUncompressed = 4;  // SEC 1, 2.3.3

// The algorithms and attributes are the same for every approver: only the key itself is ever taken from outside.
constexpr TPMA_OBJECT kApprover = TPMA_OBJECT_SIGN_ENCRYPT | TPMA_OBJECT_USERWITHAUTH;

TPMT_PUBLIC rsa_template(std::uint16_t bits) {
    TPMT_PUBLIC area{};
    area.type = TPM2_ALG_RSA;
    area.nameAlg = TPM2_ALG_SHA256;
    area.objectAttributes = kApprover;
    TPMS_RSA_PARMS &rsa = area.parameters.rsaDetail;
    rsa.symmetric.algorithm = TPM2_ALG_NULL;
    rsa.scheme.scheme = TPM2_ALG_RSASSA;
    rsa.scheme.details.rsassa.hashAlg = TPM2_ALG_SHA256;
    rsa.keyBits = bits;
    rsa.exponent = 0;  // 65537 (TCG Part 2, 12.2.3.5)
    area.unique.rsa.size = bits / 8;
    return area;
}

// Big endian, as wide as `out`.
bool number_of(const EVP_PKEY *key, const char *parameter, MutableBytes out) {
    BIGNUM *raw = nullptr;
    const bool found = EVP_PKEY_get_bn_param(key, parameter, &raw) == 1;
    const BigNumber number(raw);
    return found && BN_bn2binpad(number.get(), out.data(), static_cast<int>(out.size())) >= 0;
}

bool usual_exponent(const EVP_PKEY *key) {
    BIGNUM *raw = nullptr;
    const bool found = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &raw) == 1;
    const BigNumber exponent(raw);
    return found && BN_is_word(exponent.get(), kExponent) == 1;
}

Result<TPMT_PUBLIC> rsa_area(const EVP_PKEY *key) {
    const int bits = EVP_PKEY_get_bits(key);
    if (std::ranges::find(kModuli, bits) == std::ranges::end(kModuli))
        return not_accepted(fmt::format("RSA with {} bits", bits));
    if (!usual_exponent(key)) return not_accepted("RSA with an exponent other than 65537");
    TPMT_PUBLIC area = rsa_template(static_cast<std::uint16_t>(bits));
    if (!number_of(key, OSSL_PKEY_PARAM_RSA_N, {area.unique.rsa.buffer, area.unique.rsa.size}))
        return not_accepted("RSA without a modulus");
    return area;
}

Result<TPMT_PUBLIC> ecc_area(const EVP_PKEY *key) {
    std::array<char, 64> curve{};
    const bool named =
        EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, curve.data(), curve.size(), nullptr) == 1;
    if (!named) return not_accepted("a key on a curve without a name");
    if (std::string_view(curve.data()) != kP256Curve)
        return not_accepted(fmt::format("a key on the curve {}", curve.data()));
    TPMT_PUBLIC area = ecdsa_p256(kApprover);
    TPMS_ECC_POINT &point = area.unique.ecc;
    if (!number_of(key, OSSL_PKEY_PARAM_EC_PUB_X, {point.x.buffer, point.x.size}) ||
        !number_of(key, OSSL_PKEY_PARAM_EC_PUB_Y, {point.y.buffer, point.y.size}))
        return not_accepted("a key without a point on P-256");
    return area;
}

bool push_rsa(OSSL_PARAM_BLD *builder, const TPM2B_PUBLIC_KEY_RSA &modulus, BigNumber &n) {
    n.reset(BN_bin2bn(modulus.buffer, modulus.size, nullptr));
    return n != nullptr && OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n.get()) == 1 &&
           OSSL_PARAM_BLD_push_ulong(builder, OSSL_PKEY_PARAM_RSA_E, kExponent) == 1;
}

bool push_ecc(OSSL_PARAM_BLD *builder, const TPMT_PUBLIC &area, Bytes &encoded) {
    const TPMS_ECC_POINT &point = area.unique.ecc;
    const char *curve = area.parameters.eccDetail.curveID == TPM2_ECC_NIST_P384 ? kP384Curve : kP256Curve;
    encoded = {kUncompressed};
    encoded.insert(encoded.end(), point.x.buffer, point.x.buffer + point.x.size);
    encoded.insert(encoded.end(), point.y.buffer, point.y.buffer + point.y.size);
    return OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, curve, 0) == 1 &&
           OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, encoded.data(), encoded.size()) == 1;
}

// On the curve, or what can be a modulus of that size (NIST SP 800-56B, 6.4.2.2).
bool valid(EVP_PKEY *key, const TPMT_PUBLIC &area) {
    const KeyContext context(EVP_PKEY_CTX_new_from_pkey(nullptr, key, nullptr));
    return context && EVP_PKEY_public_check(context.get()) == 1 &&
           (area.type != TPM2_ALG_RSA || EVP_PKEY_get_bits(key) == area.parameters.rsaDetail.keyBits);
}

// They fit their own size: a failure is a fault of ours.
template <typename T, typename Marshal>
Bytes marshalled_by(Marshal marshal, const T &value) {
    std::array<std::uint8_t, sizeof(T)> buffer{};
    std::size_t size = 0;
    require(marshal(&value, buffer.data(), buffer.size(), &size) == TSS2_RC_SUCCESS, "a public area is marshalled");
    return {buffer.data(), buffer.data() + size};
}

}  // namespace

tl::unexpected<Error> not_accepted(std::string_view found) {
    return fail(ErrorCode::kInvalid,
                "this is {}: an approver's key is RSA with 2048 or 3072 bits and the exponent 65537, or ECDSA on P-256",
                found);
}

Result<TPMT_PUBLIC> public_area_of(const EVP_PKEY *key) {
    if (EVP_PKEY_is_a(key, "RSA") == 1) return rsa_area(key);
    if (EVP_PKEY_is_a(key, "EC") == 1) return ecc_area(key);
    const char *type = EVP_PKEY_get0_type_name(key);
    return not_accepted(fmt::format("a key for {}", type != nullptr ? type : "something unknown"));
}

EvpKey openssl_key(const TPMT_PUBLIC &area) {
    const bool rsa = area.type == TPM2_ALG_RSA;
    BigNumber modulus;  // the builder keeps pointers until it is done
    Bytes point;
    const ParametersBuilder builder(OSSL_PARAM_BLD_new());
    if (!builder || !(rsa ? push_rsa(builder.get(), area.unique.rsa, modulus) : push_ecc(builder.get(), area, point)))
        return nullptr;
    const Parameters parameters(OSSL_PARAM_BLD_to_param(builder.get()));
    const KeyContext maker(EVP_PKEY_CTX_new_from_name(nullptr, rsa ? "RSA" : "EC", nullptr));
    EVP_PKEY *raw = nullptr;
    if (!parameters || !maker || EVP_PKEY_fromdata_init(maker.get()) != 1 ||
        EVP_PKEY_fromdata(maker.get(), &raw, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1)
        return nullptr;
    EvpKey key(raw);
    return valid(key.get(), area) ? std::move(key) : nullptr;
}

std::optional<TPMT_PUBLIC> public_area_like(const TPMT_PUBLIC &given) {
    const TPMU_PUBLIC_ID &key = given.unique;
    std::optional<TPMT_PUBLIC> area;
    if (given.type == TPM2_ALG_RSA && std::ranges::find(kModuli, key.rsa.size * 8) != std::ranges::end(kModuli))
        area = rsa_template(static_cast<std::uint16_t>(key.rsa.size * 8));
    if (given.type == TPM2_ALG_ECC && key.ecc.x.size == kCoordinate && key.ecc.y.size == kCoordinate)
        area = ecdsa_p256(kApprover);
    if (area) area->unique = key;
    return area;
}

TPMT_PUBLIC ecdsa_p256(TPMA_OBJECT attributes) {
    TPMT_PUBLIC area{};
    area.type = TPM2_ALG_ECC;
    area.nameAlg = TPM2_ALG_SHA256;
    area.objectAttributes = attributes;
    TPMS_ECC_PARMS &ecc = area.parameters.eccDetail;
    ecc.symmetric.algorithm = TPM2_ALG_NULL;
    ecc.scheme.scheme = TPM2_ALG_ECDSA;
    ecc.scheme.details.ecdsa.hashAlg = TPM2_ALG_SHA256;
    ecc.curveID = TPM2_ECC_NIST_P256;
    ecc.kdf.scheme = TPM2_ALG_NULL;
    area.unique.ecc.x.size = kCoordinate;
    area.unique.ecc.y.size = kCoordinate;
    return area;
}

std::optional<TPMT_PUBLIC> area_of_form(ByteView public_area, const TPMT_PUBLIC &form) {
    TPM2B_PUBLIC given{};
    std::size_t consumed = 0;
    if (public_area.empty() ||
        Tss2_MU_TPM2B_PUBLIC_Unmarshal(public_area.data(), public_area.size(), &consumed, &given) != TSS2_RC_SUCCESS)
        return std::nullopt;
    TPMT_PUBLIC area = form;
    const TPMU_PUBLIC_ID &key = given.publicArea.unique;
    const bool rsa = form.type == TPM2_ALG_RSA;
    const bool sized = rsa ? key.rsa.size == form.unique.rsa.size
                           : key.ecc.x.size == form.unique.ecc.x.size && key.ecc.y.size == form.unique.ecc.y.size;
    area.unique = key;
    if (given.publicArea.type != form.type || !sized) return std::nullopt;
    if (!std::ranges::equal(marshalled(TPM2B_PUBLIC{0, area}), public_area)) return std::nullopt;
    return area;
}

Bytes tpm_name(const TPMT_PUBLIC &area) {
    const Bytes bytes = marshalled(area);
    const EVP_MD *algorithm = area.nameAlg == TPM2_ALG_SHA384 ? EVP_sha384() : EVP_sha256();
    Bytes name{static_cast<std::uint8_t>(area.nameAlg >> 8), static_cast<std::uint8_t>(area.nameAlg)};
    name.resize(name.size() + static_cast<std::size_t>(EVP_MD_get_size(algorithm)));
    require(EVP_Digest(bytes.data(), bytes.size(), name.data() + 2, nullptr, algorithm, nullptr) == 1,
            "a public area has a digest");
    return name;
}

Bytes marshalled(const TPMT_PUBLIC &area) { return marshalled_by(Tss2_MU_TPMT_PUBLIC_Marshal, area); }

Bytes marshalled(const TPM2B_PUBLIC &area) { return marshalled_by(Tss2_MU_TPM2B_PUBLIC_Marshal, area); }

}  // namespace vtpm
