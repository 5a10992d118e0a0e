// SPDX-License-Identifier: Apache-2.0
// What a manufacturer does to a new TPM 2.0 before anyone gets it: allocates its PCR banks, makes its endorsement keys,
// has them certified, and writes the certificates where tools look for them (TCG EK Credential Profile for TPM
// Family 2.0). The commands go to the TPM one at a time, over whatever leads to it.
#pragma once

#include "manager/ca/tpm_dialogue.hpp"
#include "manager/tpm/tpm_profile.hpp"

namespace vtpm {

class Manufacture : public TpmDialogue {
public:
    using Certify =
        std::function<Result<Certificates>(const std::vector<EndorsementKey> &keys, const TpmDescription &tpm)>;

    // `entropy` (at most 128 bytes): what its seeds are made of, beside what it has itself. `certify` may be null: it
    // gets no endorsement keys, which whoever wants one can still make.
    Manufacture(ByteView entropy, TpmProfile profile, Certify certify);

private:
    void make_seeds(ByteView entropy);
    void allocate_pcrs();
    void create_key(EkTemplate kind);
    Result<> describe(ByteView response);
    Result<> take_key(ByteView response);
    Result<> certify();

    TpmProfile profile_;
    Certify certify_;
    TpmDescription tpm_{};
    std::vector<EndorsementKey> keys_;
};

}  // namespace vtpm
