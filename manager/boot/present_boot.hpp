// SPDX-License-Identifier: Apache-2.0
// Which of the approver's policies is about the boot that this host is in.
#pragma once

#include <functional>
#include <vector>

#include "manager/boot/boot_policy.hpp"
#include "manager/boot/event_log.hpp"

namespace vtpm {

using ReadPcrs = std::function<Result<PcrValues>(const PcrSelection &)>;

// Of the firmware's log, for the words of a refusal.
using ReadEvents = std::function<std::vector<BootEvent>(const PcrSelection &)>;

// One of `installed`, valid at `now` (seconds since 1970), whose values are those that `read` gives. kRefused if there
// is none, with what stands against the one that comes nearest; any other error is that of `read`.
Result<const BootPolicy *> approval_of_present_boot(const std::vector<BootPolicy> &installed,
                                                    const ApproverKey &approver, const ReadPcrs &read, std::int64_t now,
                                                    const ReadEvents &read_events = {});

}  // namespace vtpm
