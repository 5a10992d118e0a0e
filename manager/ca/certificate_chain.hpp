// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/types.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "manager/ca/x509.hpp"

namespace vtpm {

// The certificates of a file of PEM blocks. kInvalid: it has none, or a damaged one.
Result<std::vector<Certificate>> certificates_from_pem(std::string_view text);

// kRefused unless `certificate` leads to one of `trusted`, itself or a CA below a root, perhaps by some of `between`,
// and was valid at `now` (seconds since 1970). `strict`: it must keep all of RFC 5280, which certificates of old TPMs
// may not.
enum class Strict { kNo, kYes };
Result<> verify_chain(X509 *certificate, const std::vector<Certificate> &trusted, std::int64_t now, Strict strict,
                      const std::vector<Certificate> &between = {});

}  // namespace vtpm
