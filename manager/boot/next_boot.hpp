// SPDX-License-Identifier: Apache-2.0
// The PCRs that the next boot will have, before anybody booted it: the events of the present one, with the digests of
// the files and variables that are there now. What these do not tell is said, and not guessed.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "manager/boot/boot_files.hpp"
#include "manager/boot/event_log.hpp"

namespace vtpm {

struct NextBoot {
    PcrValues values;
    std::map<unsigned, std::string> why;      // for each of them: "as now", or what changed
    std::map<unsigned, std::string> unknown;  // the others, and why they are
    std::vector<BootEvent> events;            // of the chosen PCRs
    std::vector<std::string> assumptions;     // under which the values hold
};

// `present`: what the PCRs are now; none if only the log is there. kInvalid: as of parse_event_log().
Result<NextBoot> next_boot(ByteView log, const PcrSelection &pcrs, const std::optional<PcrValues> &present,
                           const BootFiles &files);

}  // namespace vtpm
