// SPDX-License-Identifier: Apache-2.0
// Paths and states of a vTPM device in xenstore. Every path derives from our own domain, the guest's and the device
// number, never from what a guest wrote (XSA-175).
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>

#include "shared-protocol/tpmif.h"

namespace vtpm {

// Xen: public/io/xenbus.h
enum class XenbusState : std::uint8_t {
    kUnknown = 0,  // absent, or nothing that xenbus knows
    kInitialising = 1,
    kInitWait = 2,
    kInitialised = 3,
    kConnected = 4,
    kClosing = 5,
    kClosed = 6,
    kReconfiguring = 7,
    kReconfigured = 8,
};

// One vTPM device: guest domain and device number.
struct DeviceId {
    std::uint32_t domain;
    std::uint32_t device;
    auto operator<=>(const DeviceId &) const = default;
};

inline std::string to_string(DeviceId id) { return fmt::format("{}/{}", id.domain, id.device); }

inline std::string backend_root(std::uint32_t own_domain) {
    return fmt::format("/local/domain/{}/backend/" TPMIF_DEVICE, own_domain);
}
inline std::string backend_path(std::uint32_t own_domain, DeviceId id) {
    return fmt::format("{}/{}/{}", backend_root(own_domain), id.domain, id.device);
}
inline std::string frontend_path(DeviceId id) {
    return fmt::format("/local/domain/{}/device/" TPMIF_DEVICE "/{}", id.domain, id.device);
}

}  // namespace vtpm
