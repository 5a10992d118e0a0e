// SPDX-License-Identifier: Apache-2.0
#include "base/result.hpp"

#include <cstdio>
#include <cstdlib>

namespace vtpm {

ErrorCode code_of_errno(int error) {
    switch (error) {
        case EAGAIN:  // fork, setresuid: too many processes
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
        case ETOOMANYREFS:  // descriptors under way in sockets
            return ErrorCode::kShortage;
        default:
            return ErrorCode::kSystem;
    }
}

void require(bool invariant, const char *what) {
    if (invariant) return;
    std::fprintf(stderr, "<2>internal error: %s\n", what);  // <2>: LOG_CRIT, read by journald
    std::abort();
}

}  // namespace vtpm
