// SPDX-License-Identifier: Apache-2.0
// What the documents that an approver signs have in common. `what`: "a boot policy", for errors, which are kInvalid.
#pragma once

#include <string>
#include <string_view>

#include "manager/tpm/pcr_values.hpp"

namespace vtpm {

// 1 to 64 printable ASCII characters, as in the envelopes (docs/keys.md).
Result<> check_group(std::string_view what, const std::string &group);
// The values of these PCRs, no more and no less, each of their bank's size.
Result<> check_values(std::string_view what, const PcrSelection &pcrs, const PcrValues &values);
// 1 or more.
Result<> check_generation(std::string_view what, std::uint32_t generation);

// The name in lists of what says `document`: 16 hexadecimal digits.
std::string document_id(ByteView document);

}  // namespace vtpm
