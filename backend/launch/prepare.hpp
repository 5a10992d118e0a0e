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

// Xen cuts a PV guest's command line after as many bytes (xen/include/public/xen.h: MAX_GUEST_CMDLINE, with its NUL);
// what type the guest is libxl does not say.
constexpr std::size_t kMaxArguments = 1023;

// Originals are read once, and not looked at after that. A UKI is taken apart. kInvalid: an image that is damaged, a
// command line that would be cut, an initrd beside a UKI.
Result<Prepared> prepare(const GuestFiles &files, const PrivateDirectory &directory);

}  // namespace vtpm::launch
