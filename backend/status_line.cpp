// SPDX-License-Identifier: Apache-2.0
#include "backend/status_line.hpp"

#include <fmt/format.h>

namespace vtpm {

std::string status_line(const Serving &serving) {
    std::string line = fmt::format("{} vTPM{}", serving.devices, serving.devices == 1 ? "" : "s");
    if (serving.devices != 0) line += fmt::format(", {} connected", serving.connected);
    if (serving.failed != 0) line += fmt::format(", {} FAILED (xen-vtpm status)", serving.failed);
    if (!serving.has_manager) line += "; WITHOUT xen-vtpm-managerd, nothing is stored and none starts";
    return line + fmt::format("; room for {} more", serving.room);
}

}  // namespace vtpm
