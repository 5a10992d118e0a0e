// SPDX-License-Identifier: Apache-2.0
// `xen-vtpm config`: what the manager would say of its configuration.
#pragma once

#include "manager/cli/commands.hpp"

namespace vtpm::cli {

// By the manager's own program, which reads it as it would at its start. kRefused: file, line, and what is wrong.
Result<Json> check_config(const std::string &file);
std::string check_config_text(const Json &answer);

}  // namespace vtpm::cli
