// SPDX-License-Identifier: Apache-2.0
// Commands for a vTPM that no guest has yet, whose platform hierarchy is open: one at a time, over whatever leads to
// it.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "base/big_endian.hpp"
#include "manager/ca/ek_certificate.hpp"

namespace vtpm {

// DER.
struct Certificates {
    std::vector<Bytes> endorsement;  // one for each key, in their order
    Bytes chain;                     // those between them and the root, which is left out; may be empty
};

// The content of an NV index of libtpms.
constexpr std::size_t kMaxIndex = 2048;

class TpmDialogue {
public:
    virtual ~TpmDialogue() = default;
    TpmDialogue(const TpmDialogue &) = delete;
    TpmDialogue &operator=(const TpmDialogue &) = delete;

    // The first command, or the next one after the response to the former (empty at first). Empty: it is done, and the
    // TPM has been shut down. kRefused: the TPM does not do what it must.
    Result<Bytes> next(ByteView response);
    // next() has said so.
    [[nodiscard]] bool is_done() const { return done_; }

    // What was certified so far.
    [[nodiscard]] const std::vector<CertifiedKey> &endorsement() const { return endorsement_; }

protected:
    using Take = std::function<Result<>(ByteView response)>;  // of a success; what follows the header
    enum class OnFailure { kRefuse, kGoOn };

    // `name`: of the TPM, in errors. Begins with TPM2_Startup.
    explicit TpmDialogue(std::string name);
    void then(const char *what, Bytes command, Take take = nullptr, OnFailure on_failure = OnFailure::kRefuse);
    // Before what is to come already.
    void now(const char *what, Bytes command, Take take = nullptr);
    void shut_down();
    // Where tools look for them. The indices are not there yet.
    void write_certificates(const std::vector<CertifiedKey> &keys, const std::vector<EkTemplate> &kinds,
                            ByteView chain);
    [[nodiscard]] tl::unexpected<Error> malformed(const char *what) const;

private:
    struct Step {
        const char *what;
        Bytes command;
        Take take;
        OnFailure on_failure;
    };
    void write(std::uint32_t index, ByteView content);

    std::string name_;
    std::deque<Step> steps_;
    std::vector<CertifiedKey> endorsement_;
    bool asked_ = false;  // the front step's command is with the TPM
    bool done_ = false;
};

// A command without authorizations, and one by the empty password of the first handle.
Bytes plain_command(std::uint32_t code, const BigEndian &parameters);
Bytes authorized_command(std::uint32_t code, std::initializer_list<std::uint32_t> handles, const BigEndian &parameters);
constexpr std::size_t kPasswordAnswer = 5;  // the session area of a response to the latter: no nonce, no HMAC

}  // namespace vtpm
