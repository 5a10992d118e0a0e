// SPDX-License-Identifier: Apache-2.0
// org.xenvtpm.Manager1: what the administrator may ask, as D-Bus methods. docs/protocol.md and xen-vtpm(1) list the
// keys of the dictionaries; they may grow, none goes or changes its meaning.
#pragma once

#include <functional>
#include <vector>

#include "base/bus.hpp"
#include "manager/groups/boot_policies.hpp"
#include "manager/groups/worker.hpp"
#include "manager/vtpm/vtpms.hpp"

namespace vtpm {

// What they are done with. Outlives the methods.
struct ManagerParts {
    Vtpms &vtpms;
    GroupKeys &keys;
    BootPolicies &policies;
    LaunchApprovals &launches;
    CertificateAuthorities &authorities;
    Attestor &attestor;
    Store &store;
    Worker &worker;                  // of what needs the hardware TPM
    std::function<void()> worked{};  // in the loop, after each of its jobs
};

std::vector<bus::Method> manager_methods(const ManagerParts &parts);

}  // namespace vtpm
