// SPDX-License-Identifier: Apache-2.0
// What is wrong on this host, and what to do: the end of xen-vtpm status.
#pragma once

#include <string>
#include <vector>

#include "manager/cli/commands.hpp"

namespace vtpm::cli {

struct Problem {
    ErrorCode code;  // kNone: everything works, but something may be lost
    std::string what;
    std::string remedy;
};

// An older manager does not say.
inline bool has_recovery_key(const Json &group) { return group.value("recovery_key", true); }

// Of the document of status; the gravest first.
std::vector<Problem> problems_of(const Json &status);

}  // namespace vtpm::cli
