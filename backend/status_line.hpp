// SPDX-License-Identifier: Apache-2.0
// What `systemctl status xen-vtpmd` shows in one line.
#pragma once

#include <cstddef>
#include <string>

namespace vtpm {

struct Serving {
    std::size_t devices = 0;
    std::size_t connected = 0;
    std::size_t failed = 0;
    std::size_t room = 0;  // for so many more TPMs
    bool has_manager = false;
};

std::string status_line(const Serving &serving);

}  // namespace vtpm
