// SPDX-License-Identifier: Apache-2.0
// xen-vtpm ca: who certifies the endorsement keys of a group's vTPMs.
#pragma once

#include "manager/cli/commands.hpp"

namespace vtpm::cli {

Result<Json> show_ca(Daemons &daemons, const std::string &group);
// The certificate, or a request for one by another CA: PEM.
Result<Json> export_ca(Daemons &daemons, const std::string &group, bool request);
// `file`: "-" is standard input.
Result<Json> import_ca(Daemons &daemons, const std::string &group, const std::string &file);

}  // namespace vtpm::cli
