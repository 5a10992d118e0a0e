// SPDX-License-Identifier: Apache-2.0
// An approver's private key, in memory for as long as he signs. It never comes near a manager.
#pragma once

#include "manager/boot/approver_key.hpp"

namespace vtpm {

class SigningKey {
public:
    // PEM: PKCS#8, or the older forms of RSA and EC keys; without a passphrase. kInvalid otherwise.
    static Result<SigningKey> from_pem(ByteView text);

    [[nodiscard]] const ApproverKey &approver() const { return approver_; }
    // As ApproverKey::verify() takes it.
    [[nodiscard]] Result<Bytes> sign(ByteView message) const;

private:
    SigningKey(std::shared_ptr<EVP_PKEY> key, ApproverKey approver)
        : key_(std::move(key)), approver_(std::move(approver)) {}

    std::shared_ptr<EVP_PKEY> key_;  // OpenSSL wipes it when the last one goes
    ApproverKey approver_;
};

}  // namespace vtpm
