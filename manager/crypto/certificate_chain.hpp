// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/types.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "manager/crypto/x509.hpp"

namespace vtpm {

// The certificates of a file of PEM blocks. kInvalid: it has none, or a damaged one.
Result<std::vector<Certificate>> certificates_from_pem(std::string_view text);

// In PEM as well, or one in DER: as makers of TPMs give them out.
Result<std::vector<Certificate>> certificates_from_file(std::string_view content);

using RevocationList = std::unique_ptr<X509_CRL, FreeWith<X509_CRL_free>>;
// The same for a CA's lists of what it revoked.
Result<std::vector<RevocationList>> revocation_lists_from_file(std::string_view content);

// What a TPM has in the NV indices of a chain, in their order (kEkCertificateChainIndex): the certificates, without
// what fills an index behind them and whatever else is none.
Bytes certificates_in_indices(const std::vector<Bytes> &contents);

// kRefused unless `certificate` leads to one of `trusted`, itself or a CA below a root, perhaps by some of `between`,
// and was valid at `now` (seconds since 1970). `strict`: it must keep all of RFC 5280, which certificates of old TPMs
// may not. With `revoked`: of each certificate below the trusted one, its issuer's list must be among them, be valid
// and not have it.
enum class Strict { kNo, kYes };
Result<> verify_chain(X509 *certificate, const std::vector<Certificate> &trusted, std::int64_t now, Strict strict,
                      const std::vector<Certificate> &between = {}, const std::vector<RevocationList> &revoked = {});

}  // namespace vtpm
