// SPDX-License-Identifier: Apache-2.0
// What another CA made of a request (ca_certificate.hpp).
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "manager/crypto/x509.hpp"

namespace vtpm {

// Bytes of DER: each new vTPM keeps them in NV, of which its guest wants some as well.
constexpr std::size_t kMaxCaCertificates = 8192;

// `pem` holds the certificate, in any order those that lead from it to a root, if need be, and text around them; `now`
// in seconds since 1970. DER, one after the other: the CA's own, then those between it and the root, which is left out.
// kInvalid says why it cannot stand in the place of the self-signed one: it must be valid now, for this key, this
// subject and a CA; certificates that were issued so far must go on to lead to it, and those that will be must be
// valid, which is tried. The signature of the last one is not verified: who signed it is not asked, and a verifier
// will. Other errors as of `key.sign`.
Result<Bytes> signed_ca_from_pem(ByteView pem, const std::string &common_name, const CaKey &key, std::int64_t now);

}  // namespace vtpm
