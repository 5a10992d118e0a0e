// SPDX-License-Identifier: Apache-2.0
// The hypervisor itself, by libxenctrl. Whoever has this may make any hypercall.
#pragma once

#include <memory>

#include "backend/xen/domains.hpp"

namespace vtpm {

Result<std::unique_ptr<Domains>> open_xen_domains();

}  // namespace vtpm
