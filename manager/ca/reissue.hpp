// SPDX-License-Identifier: Apache-2.0
// New certificates for the endorsement keys that a TPM 2.0 has, in the place of the former: at a power-on, before its
// guest gets it. What the guest keeps in NV stays.
#pragma once

#include "manager/ca/tpm_dialogue.hpp"

namespace vtpm {

class Reissue : public TpmDialogue {
public:
    // `keys` with their new certificates; `kinds`: of each.
    Reissue(const std::vector<CertifiedKey> &keys, const std::vector<EkTemplate> &kinds, ByteView chain);

private:
    void remove(std::uint32_t index);
};

}  // namespace vtpm
