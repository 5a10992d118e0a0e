// SPDX-License-Identifier: Apache-2.0
// Launches as they are recorded, and as approvers know them.
#pragma once

#include "expect.hpp"
#include "launch/event_log.hpp"
#include "launch/pcrs.hpp"
#include "manager/boot/launch_approval.hpp"

// The log of a launch with this command line; kernel and initrd are one byte each.
inline vtpm::Bytes launch_log(std::string_view line, std::uint8_t kernel = 'k', std::uint8_t initrd = 'i',
                              const vtpm::launch::Banks &banks = vtpm::launch::all_banks()) {
    vtpm::launch::MeasuredLaunch measured;
    measured.banks = banks;
    measured.image.digests = expect(vtpm::launch::digests_of(vtpm::Bytes{kernel}, banks));
    measured.initrd = expect(vtpm::launch::digests_of(vtpm::Bytes{initrd}, banks));
    measured.command_line = line;
    return expect(vtpm::launch::write_event_log({banks, expect(vtpm::launch::launch_events(measured))}));
}

// What `launch predict` makes of it.
inline vtpm::ApprovedLaunch approved(const std::string &label, std::string_view line, std::uint8_t kernel = 'k',
                                     const char *pcrs = "sha256:4,8,9,11,12") {
    const auto bank = vtpm::launch::hash_named(std::string_view(pcrs).substr(0, std::string_view(pcrs).find(':')));
    const auto log = expect(vtpm::launch::read_event_log(launch_log(line, kernel)));
    const auto all = expect(vtpm::launch::pcrs_after(log.events, *bank));
    vtpm::ApprovedLaunch launch{label, expect(vtpm::PcrSelection::parse(pcrs)), {}};
    for (const unsigned pcr : launch.pcrs.numbers())
        launch.values[pcr] = all.contains(pcr) ? all.at(pcr) : vtpm::Bytes(vtpm::launch::digest_size(*bank));
    return launch;
}

inline vtpm::PcrValues values_of(const vtpm::ApprovedLaunch &launch, const std::vector<unsigned> &pcrs) {
    vtpm::PcrValues values;
    for (const unsigned pcr : pcrs) values[pcr] = launch.values.at(pcr);
    return values;
}
