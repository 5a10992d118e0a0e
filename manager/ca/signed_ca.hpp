// SPDX-License-Identifier: Apache-2.0
// What another CA made of a request (ca_certificate.hpp).
#pragma once

#include <openssl/types.h>

#include <cstdint>
#include <string>

#include "base/bytes.hpp"
#include "base/result.hpp"

namespace vtpm {

// `pem` holds one certificate, and text around it if need be; `now` in seconds since 1970. DER. kInvalid says why it
// cannot stand in the place of the self-signed one: it must be valid now, for this key, this subject and a CA, and
// certificates that were issued so far must go on to lead to it. Its own signature is not verified: who signed it is
// not asked, and a verifier will.
Result<Bytes> signed_ca_from_pem(ByteView pem, const std::string &common_name, const EVP_PKEY *key, std::int64_t now);

}  // namespace vtpm
