// SPDX-License-Identifier: Apache-2.0
// All vTPM devices of this domain: finds them in xenstore, and tells each when something of it has changed.
#pragma once

#include <map>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "backend/device/device.hpp"

namespace vtpm {

class Backend {
public:
    // What `services` asks of other devices is filled in here.
    explicit Backend(DeviceServices services);
    Backend(const Backend &) = delete;
    Backend &operator=(const Backend &) = delete;

    // Devices that are there already are found by the watch's first event.
    Result<> start();
    void manager_is_back();
    [[nodiscard]] const std::map<DeviceId, std::unique_ptr<Device>> &devices() const { return devices_; }

private:
    Result<> look_after_xenstore();
    void take_events();
    void scan();
    void scan(std::uint32_t domain);
    void discover(std::uint32_t domain);
    void changed(DeviceId id);
    void forget_finished();
    void wake_others(const Uuid &uuid, DeviceId ended);
    [[nodiscard]] bool is_there(DeviceId id) const;
    // <root>/K or nothing
    [[nodiscard]] std::optional<std::uint32_t> domain_of(std::string_view path) const;
    // <root>/K/N[/...] or nothing
    [[nodiscard]] std::optional<DeviceId> device_of(std::string_view path) const;

    DeviceServices services_;
    std::string root_;
    EventSource readable_;
    EventSource finished_;
    std::vector<std::pair<Uuid, DeviceId>> ended_engines_;
    EventSource ended_;
    EventSource look_;
    std::map<DeviceId, std::unique_ptr<Device>> devices_;
};

}  // namespace vtpm
