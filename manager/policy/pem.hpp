// SPDX-License-Identifier: Apache-2.0
// What the PEM files of keys have in common (RFC 7468).
#pragma once

#include <cstddef>
#include <string_view>

namespace vtpm {

constexpr std::size_t kMaxPem = 16'384;  // an RSA-3072 private key takes 2.5 KiB

// What the first PEM block of `text` says it is, such as "PUBLIC KEY"; empty: there is none.
std::string_view pem_label(std::string_view text);

// A pem_password_cb: OpenSSL's own would ask at the terminal. `asked` (a bool, or null) becomes true.
int no_passphrase(char *buffer, int size, int writing, void *asked) noexcept;

}  // namespace vtpm
