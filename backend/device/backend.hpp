// SPDX-License-Identifier: Apache-2.0
// All vTPM devices of this domain: finds them in xenstore, and tells each when something of it has changed.
#pragma once

#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "backend/device/device.hpp"

namespace vtpm {

class Backend {
public:
    // `services.runs_elsewhere` and `services.finished` are filled in here.
    explicit Backend(DeviceServices services);
    Backend(const Backend &) = delete;
    Backend &operator=(const Backend &) = delete;

    // Devices that are there already are found by the watch's first event.
    Result<> start();
    void manager_is_back();
    [[nodiscard]] const std::map<DeviceId, std::unique_ptr<Device>> &devices() const { return devices_; }

private:
    void take_events();
    void scan();
    void changed(DeviceId id);
    void forget_finished();
    [[nodiscard]] bool is_there(DeviceId id) const;
    // <root>/K/N[/...] or nothing
    [[nodiscard]] std::optional<DeviceId> device_of(std::string_view path) const;

    DeviceServices services_;
    std::string root_;
    EventSource readable_;
    EventSource finished_;
    std::map<DeviceId, std::unique_ptr<Device>> devices_;
};

}  // namespace vtpm
