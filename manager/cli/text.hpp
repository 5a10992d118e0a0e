// SPDX-License-Identifier: Apache-2.0
// The same documents for people.
#pragma once

#include <string>

#include "manager/cli/commands.hpp"

namespace vtpm::cli {

std::string status_text(const Json &status);
std::string list_text(const Json &vtpms);
std::string show_text(const Json &vtpm);
std::string create_text(const Json &created);
std::string destroy_text(const Json &destroyed);

}  // namespace vtpm::cli
