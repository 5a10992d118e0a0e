// SPDX-License-Identifier: Apache-2.0
// What the hypervisor says of domains: facts that no guest can forge, and that xenstore does not have.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.hpp"

namespace vtpm {

class Domains {
public:
    virtual ~Domains() = default;
    // It has suspended itself (SHUTDOWN_suspend), as for a save or a migration, and does not run. A domain that is
    // gone is not suspended.
    virtual Result<bool> is_suspended(std::uint32_t domain) = 0;
    // Its memory is that of a former domain, restored or migrated, and it has not run since.
    virtual Result<bool> is_fresh_restore(std::uint32_t domain) = 0;
};

Result<std::unique_ptr<Domains>> open_domains();

}  // namespace vtpm
