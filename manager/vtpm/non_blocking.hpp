// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>

#include "base/result.hpp"

namespace vtpm {

// A peer that does not read loses its socket; it never holds up the loop.
inline Result<> make_non_blocking(int fd) {
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) return fail_errno("fcntl");
    return {};
}

}  // namespace vtpm
