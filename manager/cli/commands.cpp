// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/commands.hpp"

#include "base/uuid.hpp"
#include "manager/cli/files.hpp"

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

Json vtpm_json(const bus::Dictionary &vtpm, const std::optional<bus::Rows> &devices) {
    Json object = json_of(vtpm);
    if (const auto uuid = vtpm.find("uuid"); uuid != vtpm.end()) object["devices"] = devices_of(devices, uuid->second);
    return object;
}

bool has_engine(const bus::Dictionary &device) {
    const auto pid = device.find("engine_pid");
    return pid != device.end() && pid->second != bus::Value(std::uint32_t{0});
}

tl::unexpected<Error> in_use(const std::string &uuid) {
    return fail(ErrorCode::kInUse, "vTPM {} is in use: shut its guest down first", uuid);
}

// Of a group that is lost: its guests may run still.
Result<> require_no_engines(Daemons &daemons, const std::string &group) {
    VTPM_ASSIGN(const auto engines, vtpms_with_engines(daemons));
    VTPM_ASSIGN(const auto vtpms, daemons.list());
    for (const bus::Dictionary &vtpm : vtpms) {
        const Json row = json_of(vtpm);
        const std::string uuid = row.value("uuid", "");
        if (row.value("group", "") == group && engines.contains(uuid)) return in_use(uuid);
    }
    return {};
}

// Checked here, so that a slip of the pen needs no daemon to be told.
Result<> require_uuid(const std::string &text) {
    if (Uuid::parse(text)) return {};
    return fail(ErrorCode::kInvalid, "'{}' is not a UUID such as 01234567-89ab-cdef-0123-456789abcdef", text);
}

// The PEM file of a public key; it is the manager that judges it.
Result<std::string> approver_in(const GroupOrder &order) {
    if (order.approver.empty()) return std::string();
    return read_input(order.approver);
}

}  // namespace

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

Result<Json> status(Daemons &daemons) {
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

Result<Json> list(Daemons &daemons) {
    VTPM_ASSIGN(const auto vtpms, daemons.list());
    VTPM_ASSIGN(const auto devices, daemons.devices());
    Json rows = Json::array();
    for (const bus::Dictionary &vtpm : vtpms) rows.push_back(vtpm_json(vtpm, devices));
    return rows;
}

Result<Json> show(Daemons &daemons, const std::string &uuid) {
    VTPM_TRY(require_uuid(uuid));
    VTPM_ASSIGN(const auto vtpm, daemons.show(uuid));
    VTPM_ASSIGN(const auto devices, daemons.devices());
    return vtpm_json(vtpm, devices);
}

Result<Json> create(Daemons &daemons, const CreateOrder &order) {
    if (!order.uuid.empty()) VTPM_TRY(require_uuid(order.uuid));
    VTPM_ASSIGN(const std::string created,
                daemons.create(order.uuid, order.version, order.group, order.pcr_banks, order.launch));
    return Json{{"uuid", created}};
}

Result<Json> destroy(Daemons &daemons, const std::string &uuid) {
    VTPM_TRY(require_uuid(uuid));
    VTPM_ASSIGN(const auto engines, vtpms_with_engines(daemons));
    if (engines.contains(Uuid::parse(uuid)->to_string())) return in_use(uuid);
    VTPM_TRY(daemons.destroy(uuid));
    return Json{{"uuid", uuid}, {"destroyed", true}};
}

Result<Json> reissue(Daemons &daemons, const ReissueOrder &order) {
    if (!order.group.empty()) {
        VTPM_ASSIGN(const auto ordered, daemons.reissue_group(order.group, order.withdraw));
        return json_of(ordered);
    }
    VTPM_TRY(require_uuid(order.uuid));
    VTPM_TRY(daemons.reissue(order.uuid, order.withdraw));
    return show(daemons, order.uuid);
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

Result<Json> create_group(Daemons &daemons, const GroupOrder &order) {
    VTPM_ASSIGN(const std::string approver, approver_in(order));
    VTPM_TRY(daemons.create_group(order.name, order.pcrs, approver));
    return show_group(daemons, order.name);
}

Result<Json> open_group(Daemons &daemons, const std::string &name) {
    VTPM_TRY(daemons.open_group(name));
    return show_group(daemons, name);
}

Result<Json> reseal_group(Daemons &daemons, const GroupOrder &order) {
    VTPM_ASSIGN(const std::string approver, approver_in(order));
    VTPM_TRY(daemons.reseal_group(order.name, order.pcrs, approver));
    return show_group(daemons, order.name);
}

Result<Json> renew_group(Daemons &daemons, const std::string &name) {
    VTPM_TRY(daemons.renew_group(name));
    return show_group(daemons, name);
}

Result<Json> delete_group(Daemons &daemons, const std::string &name, bool lost) {
    if (lost) VTPM_TRY(require_no_engines(daemons, name));
    VTPM_TRY(lost ? daemons.discard_group(name) : daemons.delete_group(name));
    return Json{{"group", name}, {"deleted", true}};
}

Result<Json> audit(Daemons &daemons, bool verify) {
    if (verify) VTPM_TRY(daemons.verify_audit_log());
    VTPM_ASSIGN(const auto records, daemons.audit_log());
    return json_of(records);
}

}  // namespace vtpm::cli
