// SPDX-License-Identifier: Apache-2.0
#include "manager/tpm/ca_key.hpp"

#include "manager/tpm/public_area.hpp"

namespace vtpm {

// Not restricted: certificates are hashed outside of the TPM. NODA: who guesses at 256 bits locks out nobody.
TPMT_PUBLIC ca_key_form() {
    return ecdsa_p256(TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                      TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA | TPMA_OBJECT_SIGN_ENCRYPT);
}

}  // namespace vtpm
