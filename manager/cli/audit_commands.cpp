// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/audit_commands.hpp"

#include "manager/cli/text.hpp"

namespace vtpm::cli {
namespace {

Result<Json> audit(Daemons &daemons) {
    VTPM_ASSIGN(const auto records, daemons.audit_log());
    return json_of(records);
}

Result<Json> verify_audit(Daemons &daemons) {
    VTPM_TRY(daemons.verify_audit_log());
    return audit(daemons);
}

}  // namespace

void add_audit_commands(const Menu &menu) {
    CLI::App &command = menu.add("audit", "Show what was done to groups, vTPMs and policies", audit, audit_text);
    menu.at(command).add("verify", "Show it, and fail unless every record is there as it was written", verify_audit,
                         audit_text);
}

}  // namespace vtpm::cli
