// SPDX-License-Identifier: Apache-2.0
// The hypervisor by way of xen-vtpm-domains, which may ask it nothing but this.
#pragma once

#include <chrono>
#include <string>

#include "backend/xen/domains.hpp"
#include "base/unique_fd.hpp"
#include "shared-protocol/time_limits.hpp"

namespace vtpm {

// Connects when it is asked, and again after the other end was restarted. kUnavailable: it is away, or hangs; then it
// is not asked again for as long as it was waited for, so that the loop has time for those who need no answer.
class DomainsClient final : public Domains {
public:
    explicit DomainsClient(std::string path, std::chrono::milliseconds limit = limits::kDomainAnswer)
        : path_(std::move(path)), limit_(limit) {}
    Result<DomainFacts> ask(std::uint32_t domain) override;

private:
    Result<DomainFacts> exchange(std::uint32_t domain);

    std::string path_;
    std::chrono::milliseconds limit_;
    UniqueFd socket_;
    std::chrono::steady_clock::time_point not_before_;
};

}  // namespace vtpm
