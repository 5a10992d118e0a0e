// SPDX-License-Identifier: Apache-2.0
// Copies what a guest is to boot, and measures the copies.
#pragma once

#include "backend/launch/guest_files.hpp"

namespace vtpm::launch {

struct Prepared {
    UniqueFd kernel;
    std::optional<UniqueFd> ramdisk;
    std::string arguments;
    Bytes log;  // of launch/event_log.hpp, in all banks
};

// Originals are read once, and not looked at after that. A UKI is taken apart. kInvalid: an image that is damaged, a
// command line that would be cut, an initrd beside a UKI.
Result<Prepared> prepare(const GuestFiles &files, const PrivateDirectory &directory);

}  // namespace vtpm::launch
