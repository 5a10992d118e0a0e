// SPDX-License-Identifier: Apache-2.0
// What the PEM files of keys and certificates have in common (RFC 7468).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.hpp"

namespace vtpm {

constexpr std::size_t kMaxPem = 16'384;  // an RSA-3072 private key takes 2.5 KiB
constexpr std::string_view kPemBegin = "-----BEGIN ";

// What the first PEM block of `text` says it is, such as "PUBLIC KEY"; empty: there is none.
std::string_view pem_label(std::string_view text);

// The first PEM block of `text`; nothing if it is damaged, or there is none.
struct PemBlock {
    bool has_headers = false;  // RFC 1421's: it is encrypted
    Bytes der;
};
std::optional<PemBlock> first_pem_block(std::string_view text);

// One PEM block, in lines of 64 characters.
std::string to_pem(std::string_view label, ByteView der);

// A pem_password_cb: OpenSSL's own would ask at the terminal. `asked` (a bool, or null) becomes true.
int no_passphrase(char *buffer, int size, int writing, void *asked) noexcept;

}  // namespace vtpm
