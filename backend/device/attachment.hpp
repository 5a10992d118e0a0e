// SPDX-License-Identifier: Apache-2.0
// Whether a device's vTPM may be attached to its domain, and how its TPM begins there: the word of the hypervisor
// (admission.hpp) and the manager's.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

#include "backend/device/device_notes.hpp"
#include "backend/device/device_services.hpp"

namespace vtpm {

class Attachment {
public:
    using Answer = std::function<void(const Result<> &allowed)>;

    // As a former daemon has noted it, if there was one.
    Attachment(DeviceServices &services, DeviceId id, DeviceNotes notes);

    // An error: the hypervisor's. The manager's follows from the loop, unless the device has gone.
    Result<> ask(const std::optional<Uuid> &uuid, Answer answer);
    // Whether to ask again, soon, after such an answer.
    [[nodiscard]] bool may_change(const Error &error) const;
    // For the next daemon; false: xenstore does not take it.
    [[nodiscard]] bool note(const Xenstore::Seen &seen);

    [[nodiscard]] Beginning beginning() const { return beginning_; }
    // The record of the launch; empty: nobody measured it. Until the next record.
    [[nodiscard]] Result<ByteView> launch() const;

private:
    [[nodiscard]] Result<Beginning> admitted(const std::optional<Uuid> &uuid, const Result<DomainFacts> &facts) const;
    [[nodiscard]] const Bytes *recorded_launch(const DomainFacts &facts) const;

    DeviceServices &services_;
    DeviceId id_;
    DeviceNotes notes_;
    std::chrono::steady_clock::time_point first_seen_;
    Beginning beginning_ = Beginning::kPowerOn;
    bool launched_ = false;  // its domain's launch was recorded, and had not happened yet when the device came
    std::shared_ptr<Attachment *> self_;  // answers of the manager may come after the device has gone
};

}  // namespace vtpm
