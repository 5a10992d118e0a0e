// SPDX-License-Identifier: Apache-2.0
// The subcommands: each asks the daemons and makes the JSON document that xen-vtpm(1) describes.
#pragma once

#include <nlohmann/json.hpp>
#include <set>

#include "manager/cli/daemons.hpp"

namespace vtpm::cli {

using Json = nlohmann::ordered_json;

Json json_of(const bus::Dictionary &dictionary);
Json json_of(const bus::Rows &rows);

// The UUIDs of vTPMs that have an engine, whether or not the manager knows; none if the backend is away. A manager
// knows of those only that have their state channel: after its start they come one by one.
Result<std::set<std::string>> vtpms_with_engines(Daemons &daemons);

Result<Json> status(Daemons &daemons);
Result<Json> list(Daemons &daemons);
Result<Json> show(Daemons &daemons, const std::string &uuid);
// Empty texts: the manager's default.
struct CreateOrder {
    std::string uuid;
    std::string version;
    std::string group;
    std::string pcr_banks;
    std::string launch;
};
Result<Json> create(Daemons &daemons, const CreateOrder &order);
Result<Json> destroy(Daemons &daemons, const std::string &uuid);
struct ReissueOrder {
    std::string uuid{};   // or
    std::string group{};  // all of it
    bool withdraw = false;
};
// A vTPM as show() has it, or what ReissueGroup answers.
Result<Json> reissue(Daemons &daemons, const ReissueOrder &order);
Result<Json> list_groups(Daemons &daemons);
Result<Json> show_group(Daemons &daemons, const std::string &name);
// `approver`: the file of his public key; empty: none.
struct GroupOrder {
    std::string name;
    std::string pcrs;
    std::string approver;
};
Result<Json> create_group(Daemons &daemons, const GroupOrder &order);
Result<Json> open_group(Daemons &daemons, const std::string &name);
Result<Json> reseal_group(Daemons &daemons, const GroupOrder &order);
Result<Json> renew_group(Daemons &daemons, const std::string &name);
// `lost`: it is refused, and its vTPMs go with it.
Result<Json> delete_group(Daemons &daemons, const std::string &name, bool lost);

Result<Json> audit(Daemons &daemons, bool verify);

}  // namespace vtpm::cli
