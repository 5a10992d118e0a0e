// SPDX-License-Identifier: Apache-2.0
// What the hypervisor says of domains: facts that no guest can forge, and that xenstore does not have.
#pragma once

#include <cstdint>

#include "base/result.hpp"
#include "shared-protocol/messages.hpp"

namespace vtpm {

// Where xen-vtpm-domains listens.
constexpr const char *kDomainsSocket = "/run/xen-vtpm-domains.sock";

struct DomainFacts {
    bool suspended = false;  // it has suspended itself (SHUTDOWN_suspend), to be saved or migrated
    bool has_run = false;    // it has had processor time
    bool paused = false;     // by the toolstack
    Incarnation incarnation;
};

class Domains {
public:
    virtual ~Domains() = default;
    // kNotFound: there is no such domain.
    virtual Result<DomainFacts> ask(std::uint32_t domain) = 0;
};

}  // namespace vtpm
