// SPDX-License-Identifier: Apache-2.0
// The certificate of a vTPM's endorsement key (TCG EK Credential Profile for TPM Family 2.0, 3.2).
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/uuid.hpp"
#include "manager/crypto/x509.hpp"
#include "manager/tpm/endorsement_key.hpp"

namespace vtpm {

constexpr const char *kEkCertificate = "2.23.133.8.1";  // its purpose, tcg-kp-EKCertificate

// What TPM is behind the key (3.1.2), as its capabilities TPM2_PT_MANUFACTURER, _VENDOR_STRING_1 and on,
// _FIRMWARE_VERSION_1 and _REVISION say.
struct TpmDescription {
    std::string manufacturer;  // "id:" and the four bytes in hexadecimal, upper case: "id:49424D00"
    std::string model;         // 1 to 64 printable characters of ASCII
    std::string version;       // as `manufacturer`
    std::uint32_t revision;    // of the TPM library specification, without the point: 159 is 1.59
};

// That `ek` is in the TPM 2.0 with this UUID. DER; `now` in seconds since 1970, without end. `ca_certificate` (DER) is
// the one of `key`. kInvalid: a description unlike the above, a CA's certificate that is none or is not of `key`;
// other errors as of sign_certificate().
Result<Bytes> ek_certificate(const EndorsementKey &ek, const Uuid &vtpm, const TpmDescription &tpm,
                             ByteView ca_certificate, const CaKey &key, std::int64_t now);

// Another one in the place of `former` (DER), whose description of the TPM it repeats. kRefused: `former` is not for
// this key and this vTPM; others as above.
Result<Bytes> ek_certificate_again(ByteView former, const EndorsementKey &ek, const Uuid &vtpm, ByteView ca_certificate,
                                   const CaKey &key, std::int64_t now);

// kRefused unless the certificate says what ek_certificate() makes it say of this key and this vTPM. Its signature is
// another question.
Result<> check_ek_certificate(X509 *certificate, const EndorsementKey &ek, const Uuid &vtpm);

}  // namespace vtpm
