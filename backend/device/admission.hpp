// SPDX-License-Identifier: Apache-2.0
// May a vTPM be attached to a domain, and how does its TPM begin there? By the hypervisor's word alone
// (docs/decisions/0008).
#pragma once

#include <optional>

#include "backend/xen/domains.hpp"

namespace vtpm {

// `facts`: of the domain. `other`: of the one for which this vTPM runs already, if it does.
// kRefused, kInUse: for good. Any other error: the question may be asked again.
Result<Beginning> admit(std::uint32_t domain, const Result<DomainFacts> &facts,
                        const std::optional<Result<DomainFacts>> &other);

constexpr const char *kRunsElsewhere = "this vTPM already runs for another guest";

}  // namespace vtpm
