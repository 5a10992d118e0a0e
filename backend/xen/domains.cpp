// SPDX-License-Identifier: Apache-2.0
#include "backend/xen/domains.hpp"

#include <optional>

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

    Result<bool> is_suspended(std::uint32_t domain) override {
        VTPM_ASSIGN(const auto info, find(domain));
        if (!info || (info->flags & XEN_DOMINF_shutdown) == 0) return false;
        return (info->flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask) == SHUTDOWN_suspend;
    }

    // Xen counts a domain's incarnations with its TSC's settings, in every tsc_mode: 1 when it is built, one more at
    // each restore (xen/arch/x86/time.c: tsc_set_info()). A domain that is being made has had no processor time yet.
    Result<bool> is_fresh_restore(std::uint32_t domain) override {
        VTPM_ASSIGN(const auto info, find(domain));
        if (!info || info->cpu_time != 0) return false;
        std::uint32_t mode = 0;
        std::uint32_t khz = 0;
        std::uint32_t incarnation = 0;
        std::uint64_t elapsed = 0;
        if (xc_domain_get_tsc_info(handle_.get(), domain, &mode, &elapsed, &khz, &incarnation) != 0)
            return fail_errno("ask Xen for the incarnation of domain {}", domain);
        return incarnation > 1;
    }

private:
    Result<std::optional<xc_domaininfo_t>> find(std::uint32_t domain) {
        xc_domaininfo_t info{};
        const int found = xc_domain_getinfolist(handle_.get(), domain, 1, &info);
        if (found < 0) return fail_errno("ask Xen for domain {}", domain);
        if (found == 0 || info.domain != domain) return std::nullopt;  // it may be the next one
        return info;
    }

    std::unique_ptr<xc_interface, CloseControl> handle_;
};

}  // namespace

Result<std::unique_ptr<Domains>> open_domains() {
    xc_interface *handle = xc_interface_open(nullptr, nullptr, 0);
    if (handle == nullptr) return fail_errno("open /dev/xen/privcmd and /dev/xen/hypercall");
    return std::make_unique<XenDomains>(handle);
}

}  // namespace vtpm
