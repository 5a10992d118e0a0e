// SPDX-License-Identifier: Apache-2.0
#include "manager/hardware_tpm/storage_primary.hpp"

#include <openssl/sha.h>
#include <tss2/tss2_mu.h>

#include <array>

#include "manager/hardware_tpm/tpm_error.hpp"

namespace vtpm {
namespace {

constexpr std::size_t kCoordinate = 32;  // bytes of a P-256 coordinate

// TCG TPM v2.0 Provisioning Guidance, 7.5.1: the ECC P-256 storage root key.
TPMT_PUBLIC storage_template() {
    TPMT_PUBLIC area{};
    area.type = TPM2_ALG_ECC;
    area.nameAlg = TPM2_ALG_SHA256;
    area.objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                            TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT;
    TPMS_ECC_PARMS &ecc = area.parameters.eccDetail;
    ecc.symmetric.algorithm = TPM2_ALG_AES;
    ecc.symmetric.keyBits.aes = 128;
    ecc.symmetric.mode.aes = TPM2_ALG_CFB;
    ecc.scheme.scheme = TPM2_ALG_NULL;
    ecc.curveID = TPM2_ECC_NIST_P256;
    ecc.kdf.scheme = TPM2_ALG_NULL;
    area.unique.ecc.x.size = kCoordinate;  // zeros, says the template
    area.unique.ecc.y.size = kCoordinate;
    return area;
}

Result<Bytes> marshal(const TPMT_PUBLIC &area) {
    std::array<std::uint8_t, sizeof(TPMT_PUBLIC)> buffer{};
    std::size_t size = 0;
    const TSS2_RC rc = Tss2_MU_TPMT_PUBLIC_Marshal(&area, buffer.data(), buffer.size(), &size);
    if (rc != TSS2_RC_SUCCESS) return tpm_failure(rc, "marshal the primary's public area");
    return Bytes(buffer.data(), buffer.data() + size);
}

// TCG Part 1, 16: nameAlg, then the digest of the marshalled public area.
Result<Bytes> name_of(const TPMT_PUBLIC &area) {
    VTPM_ASSIGN(const Bytes marshalled, marshal(area));
    Bytes name{TPM2_ALG_SHA256 >> 8, TPM2_ALG_SHA256 & 0xff};
    name.resize(2 + SHA256_DIGEST_LENGTH);
    SHA256(marshalled.data(), marshalled.size(), name.data() + 2);
    return name;
}

// All of it is as asked for, but for the point itself.
Result<> require_template(TPMT_PUBLIC area) {
    area.unique = storage_template().unique;
    VTPM_ASSIGN(const Bytes got, marshal(area));
    VTPM_ASSIGN(const Bytes asked, marshal(storage_template()));
    if (got != asked) return fail(ErrorCode::kRefused, "hardware TPM: its storage key is not as the template says");
    return {};
}

}  // namespace

Result<StoragePrimary> create_storage_primary(ESYS_CONTEXT *context) {
    const TPM2B_PUBLIC in_public{0, storage_template()};
    const TPM2B_SENSITIVE_CREATE sensitive{};
    const TPM2B_DATA outside_info{};
    const TPML_PCR_SELECTION creation_pcrs{};
    ESYS_TR raw = ESYS_TR_NONE;
    EsysPtr<TPM2B_PUBLIC> out_public;
    const TSS2_RC rc = with_retry([&] {
        return Esys_CreatePrimary(context, ESYS_TR_RH_OWNER, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &sensitive,
                                  &in_public, &outside_info, &creation_pcrs, &raw, out(out_public), nullptr, nullptr,
                                  nullptr);
    });
    if (plain_code(rc) == TPM2_RC_BAD_AUTH || plain_code(rc) == TPM2_RC_AUTH_FAIL)
        return fail(ErrorCode::kRefused,
                    "hardware TPM: its owner hierarchy has an authorization value, xen-vtpm needs it empty: "
                    "tpm2_changeauth -c owner -p OLD");
    if (rc != TSS2_RC_SUCCESS) return tpm_failure(rc, "TPM2_CreatePrimary");
    EsysHandle handle(context, raw);
    VTPM_TRY(require_template(out_public->publicArea));
    VTPM_ASSIGN(Bytes name, name_of(out_public->publicArea));
    return StoragePrimary{std::move(handle), std::move(name)};
}

}  // namespace vtpm
