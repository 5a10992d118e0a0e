// SPDX-License-Identifier: Apache-2.0
// What the devices of a host share.
#pragma once

#include <chrono>
#include <functional>
#include <optional>

#include "backend/device/engine_host.hpp"
#include "backend/launch_records.hpp"
#include "backend/manager_client.hpp"
#include "backend/xen/domains.hpp"
#include "backend/xen/ring_opener.hpp"
#include "backend/xen/xenstore.hpp"
#include "base/event_loop.hpp"
#include "shared-protocol/time_limits.hpp"
#include "shared-protocol/xenstore_names.hpp"

namespace vtpm {

// Outlives them.
struct DeviceServices {
    EventLoop &loop;
    Xenstore &xenstore;
    ManagerClient &manager;
    EngineHost &engines;
    RingOpener &rings;
    Domains &domains;
    LaunchRecords &launches;
    std::uint32_t own_domain;
    // libxl waits for state 2 and wants to read exactly that: on a hot attach, state 4 follows no sooner than this.
    std::chrono::milliseconds hold_init_wait{1500};
    // A device whose guest writes without end is looked at this often.
    std::chrono::milliseconds reconcile_interval{200};
    // An engine that is told to power its TPM off, and does not end, is killed after this.
    std::chrono::milliseconds power_off_limit{limits::kPowerOff};
    // A state channel that only an administrator can help (a group that is refused, then opened) is asked for this
    // often.
    std::chrono::milliseconds refused_retry{limits::kRefusedRetry};
    // The device other than this one that has a living engine for this vTPM.
    std::function<std::optional<DeviceId>(const Uuid &, DeviceId)> runs_elsewhere{};
    // Whether another one is_suspended_unused() with this vTPM.
    std::function<Result<bool>(const Uuid &, DeviceId)> is_to_be_suspended{};
    // A device has gone, and its engine: another one may wait in its place.
    std::function<void()> finished{};
    // An engine has ended: other devices may wait for this vTPM.
    std::function<void(const Uuid &, DeviceId)> engine_ended{};
};

}  // namespace vtpm
