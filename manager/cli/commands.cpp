// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/commands.hpp"

#include <fmt/ranges.h>

#include "base/uuid.hpp"
#include "manager/cli/meters.hpp"
#include "manager/cli/problems.hpp"
#include "manager/crypto/encoding.hpp"
#include "shared-protocol/bus_names.hpp"

namespace vtpm::cli {
namespace {

// The backend's devices with this vTPM; a backend that is away has none.
Json devices_of(const std::optional<bus::Rows> &devices, const bus::Value &uuid) {
    Json matching = Json::array();
    for (const bus::Dictionary &device : devices.value_or(bus::Rows{}))
        if (const auto its = device.find("uuid"); its != device.end() && its->second == uuid)
            matching.push_back(json_of(device));
    return matching;
}

bool has_engine(const bus::Dictionary &device) {
    const auto pid = device.find("engine_pid");
    return pid != device.end() && pid->second != bus::Value(std::uint32_t{0});
}

}  // namespace

// By the scope that xen-vtpmd has systemd give its engines' parent, under either version of cgroups.
bool any_engine_runs(const std::filesystem::path &cgroups) {
    for (const char *slice : {"system.slice", "systemd/system.slice"}) {
        std::error_code absent;
        for (const auto &unit : std::filesystem::directory_iterator(cgroups / slice, absent)) {
            const std::string name = unit.path().filename().string();
            if (name.starts_with(kEngineScope) && name.ends_with(".scope")) return true;
        }
    }
    return false;
}

tl::unexpected<Error> in_use(const std::string &uuid) {
    return fail(ErrorCode::kInUse, "vTPM {} is in use: shut its guest down first", uuid);
}

Result<> require_uuid(const std::string &text) {
    if (Uuid::parse(text)) return {};
    return fail(ErrorCode::kInvalid, "'{}' is not a UUID such as 01234567-89ab-cdef-0123-456789abcdef", text);
}

namespace {

Result<std::string> vtpm_of_domain(Daemons &daemons, const std::string &domain) {
    VTPM_ASSIGN(const auto devices, daemons.devices());
    if (!devices) return fail(ErrorCode::kUnavailable, "xen-vtpmd, which knows the domains, does not run");
    std::set<std::string> uuids;
    for (const Json &device : json_of(*devices))
        if (device.value("device", "").starts_with(domain + "/")) uuids.insert(device.value("uuid", ""));
    if (uuids.empty()) return fail(ErrorCode::kNotFound, "domain {} has no vTPM", domain);
    if (uuids.size() > 1)
        return fail(ErrorCode::kInvalid, "domain {} has {} vTPMs: say which: {}", domain, uuids.size(),
                    fmt::join(uuids, ", "));
    return *uuids.begin();
}

}  // namespace

Result<std::string> resolve(Daemons &daemons, const std::string &text) {
    if (const auto uuid = Uuid::parse(text)) return uuid->to_string();
    const bool is_number = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
    return is_number ? vtpm_of_domain(daemons, text) : daemons.find(text);
}

std::optional<std::int64_t> unused_since(const Json &vtpm) {
    if (vtpm.value("in_use", false) || vtpm.value("saved", false) || !vtpm.value("devices", Json::array()).empty())
        return std::nullopt;
    const bool is_new = vtpm.value("sequence", std::uint64_t{1}) == 0;
    return from_utc(vtpm.value(is_new ? "created" : "last_used", ""));
}

Json vtpm_json(const bus::Dictionary &vtpm, const std::optional<bus::Rows> &devices) {
    Json object = json_of(vtpm);
    if (const auto uuid = vtpm.find("uuid"); uuid != vtpm.end()) object["devices"] = devices_of(devices, uuid->second);
    return object;
}

Json json_of(const bus::Dictionary &dictionary) {
    Json object = Json::object();
    for (const auto &[key, value] : dictionary)
        object[key] = std::visit([](const auto &plain) { return Json(plain); }, value);
    return object;
}

Json json_of(const bus::Rows &rows) {
    Json array = Json::array();
    for (const bus::Dictionary &row : rows) array.push_back(json_of(row));
    return array;
}

Result<std::set<std::string>> vtpms_with_engines(Daemons &daemons) {
    VTPM_ASSIGN(const auto devices, daemons.devices());
    if (!devices && any_engine_runs())
        return fail(ErrorCode::kUnavailable,
                    "xen-vtpmd does not run, but TPMs that it started do, and only it knows which: "
                    "systemctl start xen-vtpmd, and try again");
    std::set<std::string> uuids;
    for (const bus::Dictionary &device : devices.value_or(bus::Rows{}))
        if (has_engine(device)) uuids.insert(json_of(device).value("uuid", ""));
    return uuids;
}

Result<Json> show_status(Daemons &daemons) {
    const auto manager = daemons.status();
    if (!manager && manager.error().code != ErrorCode::kUnavailable) return tl::make_unexpected(manager.error());
    Json groups = Json::array();
    if (manager) {
        VTPM_ASSIGN(groups, list_groups(daemons));
    }
    VTPM_ASSIGN(const auto devices, daemons.devices());
    // A backend of an older version does not say.
    const auto engines = daemons.backend_status();
    Json backend = json_of(engines ? engines->value_or(bus::Dictionary{}) : bus::Dictionary{});
    backend["running"] = devices.has_value();
    backend["devices"] = json_of(devices.value_or(bus::Rows{}));
    Json status{
        {"manager", manager ? json_of(*manager) : Json{{"state", "not running"}, {"reason", manager.error().text}}},
        {"groups", std::move(groups)},
        {"backend", std::move(backend)}};
    Json problems = Json::array();
    for (const Problem &problem : problems_of(status))
        problems.push_back(
            {{"problem", problem.what}, {"remedy", problem.remedy}, {"degraded", problem.code != ErrorCode::kNone}});
    status["problems"] = std::move(problems);
    return status;
}

Result<Json> show_vtpm(Daemons &daemons, const std::string &called) {
    VTPM_ASSIGN(const std::string uuid, resolve(daemons, called));
    VTPM_ASSIGN(const auto vtpm, daemons.show(uuid));
    VTPM_ASSIGN(const auto devices, daemons.devices());
    Json shown = vtpm_json(vtpm, devices);
    // A backend of another version may count nothing.
    const auto meters = daemons.meters();
    for (const Json &meter : json_of(meters ? meters->value_or(bus::Rows{}) : bus::Rows{}))
        for (Json &device : shown["devices"])
            if (device.value("device", "") == meter.value("device", "") && meter.value("uuid", "") == uuid)
                device["counted"] = counted_json(meter);
    return shown;
}

Result<Json> list_groups(Daemons &daemons) {
    VTPM_ASSIGN(const auto groups, daemons.groups());
    return json_of(groups);
}

Result<Json> show_group(Daemons &daemons, const std::string &name) {
    VTPM_ASSIGN(const Json groups, list_groups(daemons));
    for (const Json &group : groups)
        if (group.value("group", "") == name) return group;
    return fail(ErrorCode::kNotFound, "there is no group '{}'", name);
}

}  // namespace vtpm::cli
