// SPDX-License-Identifier: Apache-2.0
// The words of a refusal: which events of the firmware's log are behind PCRs that are not as they were. For people
// only: nobody authenticates what was recorded of the former events, and nothing is decided by it.
#pragma once

#include "manager/boot/event_log.hpp"

namespace vtpm {

// What is kept of the events when a key is sealed: each one's PCR and digest, in their order. Empty if there are none,
// or more than a log of any firmware has.
Bytes event_record(const std::vector<BootEvent> &events);

// One line about the first PCRs that differ, of a few hundred characters at most: "PCR 4: event 3,
// EV_EFI_BOOT_SERVICES_APPLICATION '\EFI\debian\grubx64.efi', was not measured when the key was sealed". Without a
// `record`, or with one that is damaged: what the log has of them now. Empty: there is no log.
std::string explain(const PcrValues &before, const PcrValues &now, ByteView record,
                    const std::vector<BootEvent> &events);

}  // namespace vtpm
