// SPDX-License-Identifier: Apache-2.0
#include "backend/xen/xen_domains.hpp"

#include <algorithm>

// Not beside libxen.hpp: it wants Xen's headers as the tools see them, from the first one on.
extern "C" {
#include <xenctrl.h>
}

namespace vtpm {
namespace {

struct CloseControl {
    void operator()(xc_interface *handle) const { (void)xc_interface_close(handle); }
};

class XenDomains final : public Domains {
public:
    explicit XenDomains(xc_interface *handle) : handle_(handle) {}

    // Xen counts a domain's incarnations with its TSC's settings, in every tsc_mode: 1 when it is built, one more at
    // each restore (xen/arch/x86/time.c: tsc_set_info()).
    Result<DomainFacts> ask(std::uint32_t domain) override {
        xc_domaininfo_t info{};
        const int found = xc_domain_getinfolist(handle_.get(), domain, 1, &info);
        if (found < 0) return fail_errno("ask Xen for domain {}", domain);
        if (found == 0 || info.domain != domain)  // it may be the next one
            return fail(ErrorCode::kNotFound, "there is no domain {}", domain);
        DomainFacts facts;
        facts.suspended = (info.flags & XEN_DOMINF_shutdown) != 0 &&
                          (info.flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask) == SHUTDOWN_suspend;
        facts.has_run = info.cpu_time != 0;
        facts.paused = (info.flags & XEN_DOMINF_paused) != 0;
        std::ranges::copy(info.handle, facts.incarnation.domain.bytes.begin());
        std::uint32_t mode = 0;
        std::uint32_t khz = 0;
        std::uint64_t elapsed = 0;
        if (xc_domain_get_tsc_info(handle_.get(), domain, &mode, &elapsed, &khz, &facts.incarnation.number) != 0)
            return fail_errno("ask Xen for the incarnation of domain {}", domain);
        return facts;
    }

private:
    std::unique_ptr<xc_interface, CloseControl> handle_;
};

}  // namespace

Result<std::unique_ptr<Domains>> open_xen_domains() {
    xc_interface *handle = xc_interface_open(nullptr, nullptr, 0);
    if (handle == nullptr) return fail_errno("open /dev/xen/privcmd and /dev/xen/hypercall");
    return std::make_unique<XenDomains>(handle);
}

}  // namespace vtpm
