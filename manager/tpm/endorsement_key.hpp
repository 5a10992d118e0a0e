// SPDX-License-Identifier: Apache-2.0
// Endorsement keys of vTPMs, by the default templates of the TCG EK Credential Profile for TPM Family 2.0 (2.6; its
// sections are meant below). Whoever makes a key from the same template in the same TPM gets the same key, and thereby
// the one that its certificate is for.
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "manager/crypto/openssl.hpp"

namespace vtpm {

enum class EkTemplate {
    kRsa2048,  // L-1 (B.3.3)
    kEccP256,  // L-2 (B.3.4)
    kEccP384,  // H-3 (B.4.4.3)
};

struct EndorsementKey {
    EkTemplate kind;
    TPMT_PUBLIC area;
    EvpKey key;
    Bytes name;  // tpm_name()
};

// As it is kept and shown: a marshalled TPM2B_PUBLIC, and its certificate in DER.
struct CertifiedKey {
    Bytes public_area;
    Bytes certificate;
};

// From the marshalled TPM2B_PUBLIC that TPM2_CreatePrimary and TPM2_ReadPublic answer. kInvalid unless that is, byte
// for byte, one of the templates with a valid key in `unique`: what a certificate says of a key is only true of those.
Result<EndorsementKey> endorsement_key(ByteView public_area);

// The template to create the key from: a marshalled TPM2B_PUBLIC.
Bytes ek_template(EkTemplate kind);

// The NV index where tools look for the key's certificate (2.2.2.4, 2.2.2.5).
std::uint32_t ek_certificate_index(EkTemplate kind);

// The first of those for the certificates between that and the root, which is left out: DER, one after the other, from
// one index to the next where one has no room for all.
constexpr std::uint32_t kEkCertificateChainIndex = 0x01c00100;
constexpr std::uint32_t kLastEkCertificateChainIndex = 0x01c001ff;

// Of the templates that a host's TPM may have been certified by: "rsa-2048", "ecc-p256".
std::string_view name_of(EkTemplate kind);
std::optional<EkTemplate> host_template_named(std::string_view name);

}  // namespace vtpm
