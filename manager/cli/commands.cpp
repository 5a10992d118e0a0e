// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/commands.hpp"

#include "base/uuid.hpp"

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

tl::unexpected<Error> in_use(const std::string &uuid) {
    return fail(ErrorCode::kInUse, "vTPM {} is in use: shut its guest down first", uuid);
}

Result<> require_uuid(const std::string &text) {
    if (Uuid::parse(text)) return {};
    return fail(ErrorCode::kInvalid, "'{}' is not a UUID such as 01234567-89ab-cdef-0123-456789abcdef", text);
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
    std::set<std::string> uuids;
    for (const bus::Dictionary &device : devices.value_or(bus::Rows{}))
        if (has_engine(device)) uuids.insert(json_of(device).value("uuid", ""));
    return uuids;
}

Result<Json> show_status(Daemons &daemons) {
    VTPM_ASSIGN(const auto manager, daemons.status());
    VTPM_ASSIGN(const Json groups, list_groups(daemons));
    VTPM_ASSIGN(const auto devices, daemons.devices());
    // A backend of an older version does not say.
    const auto engines = daemons.backend_status();
    Json backend = json_of(engines ? engines->value_or(bus::Dictionary{}) : bus::Dictionary{});
    backend["running"] = devices.has_value();
    backend["devices"] = json_of(devices.value_or(bus::Rows{}));
    return Json{{"manager", json_of(manager)}, {"groups", groups}, {"backend", backend}};
}

Result<Json> show_vtpm(Daemons &daemons, const std::string &uuid) {
    VTPM_TRY(require_uuid(uuid));
    VTPM_ASSIGN(const auto vtpm, daemons.show(uuid));
    VTPM_ASSIGN(const auto devices, daemons.devices());
    return vtpm_json(vtpm, devices);
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
