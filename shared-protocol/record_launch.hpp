// SPDX-License-Identifier: Apache-2.0
// What xen-vtpm-launch tells xen-vtpmd on the system bus: the method RecordLaunch(s domid, s log) of kBackendBus. The
// daemon binds it to Xen's handle of the domain, which is not built yet. It replaces what was recorded for the domain
// before, and is forgotten with the domain. Errors: NotFound (there is no such domain), Refused (its TPM is on
// already), Invalid.
#pragma once

#include "base/bus.hpp"
#include "base/bytes.hpp"
#include "shared-protocol/messages.hpp"

namespace vtpm {

constexpr const char *kRecordLaunch = "RecordLaunch";

struct RecordLaunch {
    std::uint32_t domain = 0;  // Xen's number of it
    Bytes log;                 // of launch/event_log.hpp, which its receiver checks
};

// The domain in decimal, the log in hexadecimal.
bus::Arguments arguments_of(const RecordLaunch &launch);
// kInvalid: no number of a domain (0 is the host), or no log of at most kMaxLaunchLog bytes.
Result<RecordLaunch> parse_record_launch(const bus::Arguments &arguments);

}  // namespace vtpm
