// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/exit_status.hpp"

#include <cstdlib>

namespace vtpm::cli {

int exit_status(ErrorCode code) {
    switch (code) {
        case ErrorCode::kNone:
            return EXIT_SUCCESS;
        case ErrorCode::kInvalid:
            return kExitUsage;
        case ErrorCode::kNotFound:
            return 3;
        case ErrorCode::kInUse:
            return 4;
        case ErrorCode::kRefused:
            return kExitRefused;
        case ErrorCode::kUnavailable:
        case ErrorCode::kShortage:
            return 6;
        case ErrorCode::kWrongState:
            return 7;
        case ErrorCode::kStoreFailed:
        case ErrorCode::kSystem:
            return kExitFailure;
    }
    return kExitFailure;
}

const char *error_word(ErrorCode code) {
    switch (code) {
        case ErrorCode::kNone:
            return "none";
        case ErrorCode::kInvalid:
            return "invalid";
        case ErrorCode::kNotFound:
            return "not-found";
        case ErrorCode::kInUse:
            return "in-use";
        case ErrorCode::kRefused:
            return "refused";
        case ErrorCode::kUnavailable:
            return "unavailable";
        case ErrorCode::kStoreFailed:
            return "store-failed";
        case ErrorCode::kSystem:
            return "system";
        case ErrorCode::kShortage:
            return "shortage";
        case ErrorCode::kWrongState:
            return "wrong-state";
    }
    return "system";
}

}  // namespace vtpm::cli
