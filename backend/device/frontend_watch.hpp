// SPDX-License-Identifier: Apache-2.0
// When a device is looked at: as soon as its frontend has written its state, but no more often than is good for others.
#pragma once

#include <functional>
#include <string>

#include "backend/device/device_services.hpp"
#include "base/allowance.hpp"
#include "base/event_loop.hpp"

namespace vtpm {

class FrontendWatch {
public:
    // `look` is called when a rest is over. The watch itself fires at once.
    FrontendWatch(DeviceServices &services, DeviceId id, std::function<void()> look);
    ~FrontendWatch();
    FrontendWatch(const FrontendWatch &) = delete;
    FrontendWatch &operator=(const FrontendWatch &) = delete;

    // Whether to look now; if not, `look` follows a little later, once for all that was asked meanwhile.
    [[nodiscard]] bool may_look();

private:
    void watch();
    [[nodiscard]] bool rest();

    DeviceServices &services_;
    DeviceId id_;
    std::string path_;
    std::function<void()> look_;
    Allowance allowance_;
    EventSource rest_;
    bool rests_ = false;
};

}  // namespace vtpm
