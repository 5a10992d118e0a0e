// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/ca_commands.hpp"

#include "manager/cli/files.hpp"

namespace vtpm::cli {

Result<Json> show_ca(Daemons &daemons, const std::string &group) {
    VTPM_ASSIGN(const auto ca, daemons.ca(group));
    return json_of(ca);
}

Result<Json> export_ca(Daemons &daemons, const std::string &group, bool request) {
    if (request) {
        VTPM_ASSIGN(const std::string pem, daemons.request_ca(group));
        return Json{{"group", group}, {"pem", pem}};
    }
    VTPM_ASSIGN(const Json ca, show_ca(daemons, group));
    return Json{{"group", group}, {"pem", ca.value("certificate", "")}};
}

Result<Json> import_ca(Daemons &daemons, const std::string &group, const std::string &file) {
    VTPM_ASSIGN(const std::string certificate, read_input(file));
    VTPM_TRY(daemons.import_ca(group, certificate));
    return show_ca(daemons, group);
}

}  // namespace vtpm::cli
