// SPDX-License-Identifier: Apache-2.0
// Exit statuses and error names of xen-vtpm(1): stable.
#pragma once

#include "base/result.hpp"

namespace vtpm::cli {

constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;
constexpr int kExitRefused = 5;

int exit_status(ErrorCode code);
const char *error_word(ErrorCode code);

}  // namespace vtpm::cli
