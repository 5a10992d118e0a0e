// SPDX-License-Identifier: Apache-2.0
// What a manufacturer does to a new TPM 2.0 before anyone gets it: allocates its PCR banks, makes its endorsement keys,
// has them certified, and writes the certificates where tools look for them (TCG EK Credential Profile for TPM
// Family 2.0). The commands go to the TPM one at a time, over whatever leads to it.
#pragma once

#include <deque>
#include <functional>
#include <vector>

#include "manager/ca/ek_certificate.hpp"
#include "manager/ca/tpm_profile.hpp"

namespace vtpm {

// DER.
struct Certificates {
    std::vector<Bytes> endorsement;  // one for each key, in their order
    Bytes chain;                     // those between them and the root, which is left out; may be empty
};

class Manufacture {
public:
    using Certify =
        std::function<Result<Certificates>(const std::vector<EndorsementKey> &keys, const TpmDescription &tpm)>;

    // `entropy` (at most 128 bytes): what its seeds are made of, beside what it has itself. `certify` may be null: it
    // gets no endorsement keys, which whoever wants one can still make.
    Manufacture(ByteView entropy, TpmProfile profile, Certify certify);

    // The first command, or the next one after the response to the former (empty at first). Empty: it is done, and the
    // TPM has been shut down. kRefused: the TPM does not do what it must.
    Result<Bytes> next(ByteView response);

    // What was certified so far.
    [[nodiscard]] const std::vector<CertifiedKey> &endorsement() const { return endorsement_; }

private:
    struct Step {
        const char *what;
        Bytes command;
        std::function<Result<>(ByteView response)> take;  // of a success; what follows the header
    };
    void make_seeds(ByteView entropy);
    void allocate_pcrs();
    void create_key(EkTemplate kind);
    void shut_down();
    Result<> describe(ByteView response);
    Result<> take_key(ByteView response);
    Result<> certify();
    void write(std::uint32_t index, ByteView content);
    void then(const char *what, Bytes command, std::function<Result<>(ByteView)> take = nullptr);

    TpmProfile profile_;
    Certify certify_;
    TpmDescription tpm_{};
    std::vector<EndorsementKey> keys_;
    std::vector<CertifiedKey> endorsement_;
    std::deque<Step> steps_;
    bool asked_ = false;  // the front step's command is with the TPM
};

}  // namespace vtpm
