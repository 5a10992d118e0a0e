// SPDX-License-Identifier: Apache-2.0
#include "base/result.hpp"

#include <cstdio>
#include <cstdlib>

namespace vtpm {

void require(bool invariant, const char *what) {
    if (invariant) return;
    std::fprintf(stderr, "<2>internal error: %s\n", what);  // <2>: LOG_CRIT, read by journald
    std::abort();
}

}  // namespace vtpm
