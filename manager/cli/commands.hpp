// SPDX-License-Identifier: Apache-2.0
// What several commands have in common: the daemons' answers as JSON documents, as xen-vtpm(1) describes them.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "manager/cli/daemons.hpp"

namespace vtpm::cli {

using Json = nlohmann::ordered_json;

Json json_of(const bus::Dictionary &dictionary);
Json json_of(const bus::Rows &rows);

// Engines outlive xen-vtpmd (docs/decisions/0007).
bool any_engine_runs(const std::filesystem::path &cgroups = "/sys/fs/cgroup");
// The UUIDs of vTPMs that have an engine, whether or not the manager knows. A manager knows of those only that have
// their state channel: after its start they come one by one. kUnavailable: the backend is away, and engines are there.
Result<std::set<std::string>> vtpms_with_engines(Daemons &daemons);
tl::unexpected<Error> in_use(const std::string &uuid);

// What a vTPM may ask of its guest's launch.
inline std::vector<std::string> launch_policies() { return {"off", "measure", "require", "require-approved"}; }

Result<> require_uuid(const std::string &text);
// What people call a vTPM: its UUID, its alias, the name of its guest, or the number of the domain that uses it now.
inline constexpr const char *kVtpmHelp = "The vTPM: its UUID or alias, its guest's name, or the domain that uses it";
// Its UUID.
Result<std::string> resolve(Daemons &daemons, const std::string &text);

// Since when nobody has used it, in seconds since 1970. Nothing: somebody does, or its guest was saved and may need it
// again, however late; or it was last used before a time was noted (schema 14), and nobody knows.
std::optional<std::int64_t> unused_since(const Json &vtpm);

// A vTPM with its devices.
Json vtpm_json(const bus::Dictionary &vtpm, const std::optional<bus::Rows> &devices);
Result<Json> show_vtpm(Daemons &daemons, const std::string &called);
Result<Json> list_groups(Daemons &daemons);
Result<Json> show_group(Daemons &daemons, const std::string &name);
Result<Json> show_status(Daemons &daemons);

}  // namespace vtpm::cli
