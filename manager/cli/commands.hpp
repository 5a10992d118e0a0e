// SPDX-License-Identifier: Apache-2.0
// The subcommands: each asks the daemons and makes the JSON document that xen-vtpm(1) describes.
#pragma once

#include <nlohmann/json.hpp>

#include "manager/cli/daemons.hpp"

namespace vtpm::cli {

using Json = nlohmann::ordered_json;

Result<Json> status(Daemons &daemons);
Result<Json> list(Daemons &daemons);
Result<Json> show(Daemons &daemons, const std::string &uuid);
Result<Json> create(Daemons &daemons, const std::string &uuid, const std::string &version);
Result<Json> destroy(Daemons &daemons, const std::string &uuid);

}  // namespace vtpm::cli
