// SPDX-License-Identifier: Apache-2.0
// A CA's own certificate: it says for itself that it is one, or asks another CA to say so.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "manager/crypto/x509.hpp"

namespace vtpm {

// `common_name` is the subject and the issuer, `now` in seconds since 1970: a certificate without end, for signing
// certificates of others that are not CAs. DER. Errors as of sign_certificate(); kInvalid: no common name.
Result<Bytes> self_signed_ca(const std::string &common_name, const CaKey &key, std::int64_t now);

// A request (PKCS#10, DER) for a certificate like that. Errors as above.
Result<Bytes> ca_request(const std::string &common_name, const CaKey &key);

}  // namespace vtpm
