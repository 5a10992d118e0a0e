// SPDX-License-Identifier: Apache-2.0
#include "manager/tpm/tpm_signature.hpp"

#include "manager/crypto/der.hpp"
#include "manager/crypto/openssl.hpp"

namespace vtpm {

Result<Bytes> ecdsa_of(const TPMT_SIGNATURE &signature) {
    const TPMS_SIGNATURE_ECDSA &parts = signature.signature.ecdsa;
    if (signature.sigAlg != TPM2_ALG_ECDSA || parts.hash != TPM2_ALG_SHA256)
        return fail(ErrorCode::kRefused, "a signature of a TPM by algorithm {:#x}", signature.sigAlg);
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

}  // namespace vtpm
