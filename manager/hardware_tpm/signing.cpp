// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "manager/ca/der.hpp"
#include "manager/hardware_tpm/hardware_tpm.hpp"
#include "manager/hardware_tpm/marshal.hpp"
#include "manager/policy/openssl.hpp"

namespace vtpm {
namespace {

// Not restricted: certificates are hashed outside of the TPM. NODA: who guesses at 256 bits locks out nobody.
TPM2B_PUBLIC signing_template() {
    TPM2B_PUBLIC object{};
    TPMT_PUBLIC &area = object.publicArea;
    area.type = TPM2_ALG_ECC;
    area.nameAlg = TPM2_ALG_SHA256;
    area.objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                            TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA | TPMA_OBJECT_SIGN_ENCRYPT;
    TPMS_ECC_PARMS &ecc = area.parameters.eccDetail;
    ecc.symmetric.algorithm = TPM2_ALG_NULL;
    ecc.scheme.scheme = TPM2_ALG_ECDSA;
    ecc.scheme.details.ecdsa.hashAlg = TPM2_ALG_SHA256;
    ecc.curveID = TPM2_ECC_NIST_P256;
    ecc.kdf.scheme = TPM2_ALG_NULL;
    return object;
}

Result<Bytes> der_signature(const TPMT_SIGNATURE &signature) {
    if (signature.sigAlg != TPM2_ALG_ECDSA)
        return fail(ErrorCode::kSystem, "the hardware TPM signs by algorithm {:#x}", signature.sigAlg);
    const TPMS_SIGNATURE_ECDSA &parts = signature.signature.ecdsa;
    const EcdsaSignature ecdsa(ECDSA_SIG_new());
    BigNumber r(BN_bin2bn(parts.signatureR.buffer, parts.signatureR.size, nullptr));
    BigNumber s(BN_bin2bn(parts.signatureS.buffer, parts.signatureS.size, nullptr));
    if (!ecdsa || !r || !s || ECDSA_SIG_set0(ecdsa.get(), r.get(), s.get()) != 1)
        return openssl_failed("ECDSA_SIG_set0");
    (void)r.release();
    (void)s.release();
    Bytes der = der_of(i2d_ECDSA_SIG, ecdsa.get());
    if (der.empty()) return openssl_failed("i2d_ECDSA_SIG");
    return der;
}

}  // namespace

Result<TpmKey> HardwareTpm::create_signing_key(ByteView authorization) {
    return create(SensitiveCreate(authorization, {}), signing_template());
}

Result<Bytes> HardwareTpm::sign(const TpmKey &key, ByteView authorization, ByteView digest) {
    VTPM_ASSIGN(const EsysHandle loaded, load(key.public_area, key.private_area));
    const Authorization auth(authorization);
    VTPM_TRY(checked("Esys_TR_SetAuth", [&] { return Esys_TR_SetAuth(esys_.get(), loaded.get(), &auth); }));
    VTPM_ASSIGN(const EsysHandle command, session(SessionUse::kCommand));
    TPM2B_DIGEST hashed{static_cast<UINT16>(digest.size()), {}};
    std::ranges::copy(digest, hashed.buffer);
    TPMT_SIG_SCHEME scheme{};
    scheme.scheme = TPM2_ALG_NULL;  // the key's
    TPMT_TK_HASHCHECK not_by_the_tpm{};
    not_by_the_tpm.tag = TPM2_ST_HASHCHECK;
    not_by_the_tpm.hierarchy = TPM2_RH_NULL;
    EsysPtr<TPMT_SIGNATURE> signature;
    VTPM_TRY(checked("TPM2_Sign", [&] {
        return Esys_Sign(esys_.get(), loaded.get(), command.get(), ESYS_TR_NONE, ESYS_TR_NONE, &hashed, &scheme,
                         &not_by_the_tpm, out(signature));
    }));
    return der_signature(*signature);
}

}  // namespace vtpm
