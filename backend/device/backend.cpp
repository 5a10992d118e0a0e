// SPDX-License-Identifier: Apache-2.0
#include "backend/device/backend.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace vtpm {
namespace {

constexpr const char *kRootToken = "backend";
constexpr int kEventsAtOnce = 100;
constexpr std::chrono::seconds kLook{5};

// "K/N" with anything after the second number.
std::optional<DeviceId> parse_device(std::string_view text) {
    const auto slash = text.find('/');
    if (slash == std::string_view::npos) return std::nullopt;
    const auto domain = parse_number(text.substr(0, slash));
    const auto device = parse_number(text.substr(slash + 1, text.find('/', slash + 1) - slash - 1));
    if (!domain || !device) return std::nullopt;
    return DeviceId{*domain, *device};
}

}  // namespace

Backend::Backend(DeviceServices services) : services_(std::move(services)), root_(backend_root(services_.own_domain)) {
    services_.runs_elsewhere = [this](const Uuid &uuid, DeviceId asking) -> std::optional<DeviceId> {
        const auto other = std::ranges::find_if(devices_, [&](const auto &entry) {
            const Device &device = *entry.second;
            return device.id() != asking && device.uuid() == uuid && device.has_engine();
        });
        return other == devices_.end() ? std::nullopt : std::optional(other->first);
    };
    services_.is_to_be_suspended = [this](const Uuid &uuid, DeviceId asking) -> Result<bool> {
        for (const auto &[id, device] : devices_) {
            if (id == asking || device->uuid() != uuid) continue;
            VTPM_ASSIGN(const bool is, device->is_suspended_unused());
            if (is) return true;
        }
        return false;
    };
    services_.finished = [this] {
        // Later: it is the device itself that says so.
        auto later = services_.loop.when_idle([this] { forget_finished(); });
        if (later) finished_ = std::move(*later);
    };
    services_.engine_ended = [this](const Uuid &uuid, DeviceId ended) {
        ended_engines_.emplace_back(uuid, ended);
        auto later = services_.loop.when_idle([this] {
            for (const auto &[vtpm, device] : std::exchange(ended_engines_, {})) wake_others(vtpm, device);
        });
        if (later) ended_ = std::move(*later);
    };
}

Result<> Backend::start() {
    VTPM_TRY(services_.xenstore.watch(root_, kRootToken));
    VTPM_ASSIGN(readable_, services_.loop.on_readable(services_.xenstore.fd(), [this] { take_events(); }));
    return look_after_xenstore();
}

// It tells of no event that it is away.
Result<> Backend::look_after_xenstore() {
    (void)services_.xenstore.read(root_);
    VTPM_ASSIGN(look_, services_.loop.after(kLook, [this] { (void)look_after_xenstore(); }));
    return {};
}

void Backend::manager_is_back() {
    for (const auto &entry : devices_) entry.second->manager_is_back();
}

// A number of them: more may come as fast as they are taken, and the loop has other things to do.
void Backend::take_events() {
    for (int taken = 0; taken < kEventsAtOnce; ++taken) {
        const auto event = services_.xenstore.next_event();
        if (!event) break;
        if (event->token != kRootToken) {
            if (const auto id = parse_device(event->token); id && devices_.contains(*id)) changed(*id);
        } else if (const auto id = device_of(event->path)) {
            changed(*id);
        } else if (const auto domain = domain_of(event->path)) {
            scan(*domain);
        } else {
            scan();
        }
    }
    forget_finished();
}

// A domain's devices: a guest's end removes its directory as a whole, a thousand guests' a thousand of them.
void Backend::scan(std::uint32_t domain) {
    discover(domain);
    const auto first = devices_.lower_bound({domain, 0});
    for (auto entry = first; entry != devices_.end() && entry->first.domain == domain; ++entry) changed(entry->first);
}

void Backend::scan() {
    for (const std::string &domain : services_.xenstore.list(root_))
        if (const auto number = parse_number(domain)) discover(*number);
    for (const auto &entry : devices_) changed(entry.first);  // those, too, whose directory went as a whole
    // Our own domain is always there: an empty answer is xenstored's trouble, not the guests' end.
    if (!services_.xenstore.list("/local/domain").empty()) services_.engines.stop_unclaimed();
}

// All of them before the first takes a step: each takes over the engine that a former daemon started for it, and no
// other one is to think that its vTPM does not run.
void Backend::discover(std::uint32_t domain) {
    for (const std::string &name : services_.xenstore.list(fmt::format("{}/{}", root_, domain)))
        if (const auto number = parse_number(name)) {
            const DeviceId id{domain, *number};
            if (auto &device = devices_[id]; !device) device = std::make_unique<Device>(id, services_);
        }
}

void Backend::changed(DeviceId id) {
    auto &device = devices_[id];
    if (device) device->reconcile();
    if (device && !(device->finished() && is_there(id))) return;
    device.reset();  // first: its end takes its watch with it
    device = std::make_unique<Device>(id, services_);
    device->reconcile();
}

bool Backend::is_there(DeviceId id) const {
    return services_.xenstore.read(backend_path(services_.own_domain, id) + "/frontend-id").has_value();
}

// Another one may be in its place already, and nothing else may happen to that.
void Backend::forget_finished() {
    std::vector<std::pair<DeviceId, std::optional<Uuid>>> finished;
    for (const auto &[id, device] : devices_)
        if (device->finished()) finished.emplace_back(id, device->uuid());
    for (const auto &[id, uuid] : finished) {
        if (is_there(id))
            changed(id);
        else
            devices_.erase(id);
        if (uuid) wake_others(*uuid, id);
    }
}

void Backend::wake_others(const Uuid &uuid, DeviceId ended) {
    for (const auto &[id, device] : devices_)
        if (id != ended && device->uuid() == uuid) device->try_now();
}

std::optional<std::uint32_t> Backend::domain_of(std::string_view path) const {
    return path.starts_with(root_ + "/") ? parse_number(path.substr(root_.size() + 1)) : std::nullopt;
}

std::optional<DeviceId> Backend::device_of(std::string_view path) const {
    if (!path.starts_with(root_ + "/")) return std::nullopt;
    return parse_device(path.substr(root_.size() + 1));
}

}  // namespace vtpm
