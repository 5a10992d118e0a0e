// SPDX-License-Identifier: Apache-2.0
// Attestations: given in dom0, or asked for by a guest of its own TPM; and verified by somebody far away, who has
// neither TPM nor Xen.
#pragma once

#include "manager/cli/commands.hpp"

namespace vtpm::cli {

struct AttestOrder {
    std::string uuid;   // empty: of the guest that we are in
    std::string nonce;  // hexadecimal
    std::string pcrs;
    std::string device = "/dev/tpm0";  // of the guest
};
Result<Json> attest(const AttestOrder &order);

struct VerifyOrder {
    std::string file;
    std::string nonce;
    std::string host;  // file of its identity, which was challenged
    std::string uuid;  // may be empty, as all that follow
    std::string group;
    std::uint32_t min_generation = 1;
    std::string approver;  // file of a public key
    std::string values;    // file of `policy predict --json`
    bool any_boot = false;
    std::string launch;           // file of `launch predict`
    std::string former_cas;       // file of certificates
    std::string endorsement_key;  // file to write
};
// "verified" says whether all of "checks" hold. "quote" is what the host's TPM said, null if its quote does not hold.
// kInvalid: the order or the file is not one.
Result<Json> verify_attestation(const VerifyOrder &order);

// `ek_certificate`: a file of the maker's certificate, where the TPM keeps none; may be empty.
Result<Json> host_identity(Daemons &daemons, const std::string &ek_certificate);
struct ChallengeOrder {
    std::string file;
    std::string makers;   // file of certificates
    std::string revoked;  // file of revocation lists; may be empty
    bool any_tpm = false;
    std::string answer;  // file to write
};
Result<Json> challenge_host(const ChallengeOrder &order);
Result<Json> answer_challenge(Daemons &daemons, const std::string &file);

}  // namespace vtpm::cli
