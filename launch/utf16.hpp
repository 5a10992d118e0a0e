// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "base/bytes.hpp"
#include "base/result.hpp"

namespace vtpm::launch {

// Little endian, with a NUL at the end, as UEFI has its texts. kInvalid: `text` is no UTF-8 (RFC 3629).
Result<Bytes> utf16(std::string_view text);

}  // namespace vtpm::launch
