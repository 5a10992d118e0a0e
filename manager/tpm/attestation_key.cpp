// SPDX-License-Identifier: Apache-2.0
#include "manager/tpm/attestation_key.hpp"

#include "manager/tpm/public_area.hpp"

namespace vtpm {

// NODA: it has no authorization that somebody could guess at.
TPMT_PUBLIC attestation_key_form() {
    return ecdsa_p256(TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                      TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_SIGN_ENCRYPT);
}

}  // namespace vtpm
