// SPDX-License-Identifier: Apache-2.0
#include "backend/upgrade.hpp"

#include <algorithm>
#include <filesystem>

#include "backend/device/engine_host.hpp"
#include "shared-protocol/bus_names.hpp"

namespace vtpm {
namespace {

std::uint32_t number(const bus::Dictionary &row, const char *key) {
    const auto entry = row.find(key);
    const auto *value = entry == row.end() ? nullptr : std::get_if<std::uint32_t>(&entry->second);
    return value == nullptr ? 0 : *value;
}

// Whether some have a scope: they do while xen-vtpmd is just being restarted, or hangs.
bool engines_run() {
    std::error_code ignored;
    const std::filesystem::directory_iterator slice("/sys/fs/cgroup/system.slice", ignored);
    return std::any_of(begin(slice), end(slice), [](const auto &entry) {
        return entry.path().filename().string().starts_with("xen-vtpm-engines-");
    });
}

}  // namespace

bus::Rows describe_zygotes(const EngineHost &engines) {
    bus::Rows rows;
    for (const auto &[name, count] : engines.zygotes())
        rows.push_back({{"pid", static_cast<std::uint32_t>(name.zygote)},
                        {"engines", static_cast<std::uint32_t>(count)},
                        {"engines_protocol", name.engines_protocol},
                        {"state_protocol", name.state_protocol}});
    return rows;
}

Result<> can_take_over(const bus::Rows &zygotes) {
    std::uint32_t lost = 0;
    std::uint32_t cannot_store = 0;
    for (const bus::Dictionary &row : zygotes) {
        if (number(row, "engines_protocol") != protocol_version(Channel::kEngines))
            lost += number(row, "engines");
        else if (number(row, "state_protocol") != protocol_version(Channel::kState))
            cannot_store += number(row, "engines");
    }
    if (lost != 0)
        return fail(ErrorCode::kRefused,
                    "{} running TPMs speak another protocol and would be powered off: shut their guests down first, or "
                    "upgrade another time",
                    lost);
    if (cannot_store != 0)
        return fail(ErrorCode::kRefused,
                    "{} running TPMs could store nothing with the new xen-vtpm-managerd, and what they know would be "
                    "lost at a save: shut their guests down first, or upgrade another time",
                    cannot_store);
    return {};
}

Result<std::string> check_upgrade() {
    VTPM_ASSIGN(bus::Client client, bus::Client::open_system());
    const auto reply = client.call(kBackendBus, "ListZygotes");
    if (!reply && reply.error().code == ErrorCode::kUnavailable && !engines_run()) return "No TPMs run.";
    if (!reply)
        return fail(ErrorCode::kRefused, "xen-vtpmd does not tell what the TPMs that run speak: {}",
                    reply.error().text);
    const auto &zygotes = std::get<bus::Rows>(*reply);
    VTPM_TRY(can_take_over(zygotes));
    std::uint32_t engines = 0;
    for (const bus::Dictionary &zygote : zygotes) engines += number(zygote, "engines");
    return fmt::format("All running TPMs ({}) can be taken over.", engines);
}

}  // namespace vtpm
