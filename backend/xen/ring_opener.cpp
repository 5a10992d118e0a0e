// SPDX-License-Identifier: Apache-2.0
#include "backend/xen/ring_opener.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "backend/xen/libxen.hpp"

extern "C" {
// gntdev.h uses types of the other two.
#include <xen/grant_table.h>
#include <xen/sys/gntdev.h>
#include <xen/xen.h>
}

namespace vtpm {
namespace {

// libxengnttab enters and maps a grant in one call, in one process; here the engine maps what we enter.
Result<std::uint64_t> enter_grant(int gntdev, std::uint32_t domain, std::uint32_t ring_ref) {
    ioctl_gntdev_map_grant_ref grant{};
    grant.count = 1;
    grant.refs[0].domid = domain;
    grant.refs[0].ref = ring_ref;
    if (::ioctl(gntdev, IOCTL_GNTDEV_MAP_GRANT_REF, &grant) != 0) return fail_errno("enter grant {}", ring_ref);
    return grant.index;
}

class XenRingOpener final : public RingOpener {
public:
    Result<OpenedRing> open(std::uint32_t domain, RingNumbers numbers) override {
        UniqueFd gntdev(::open("/dev/xen/gntdev", O_RDWR | O_CLOEXEC));
        if (!gntdev) return fail_errno("open /dev/xen/gntdev");
        VTPM_ASSIGN(const std::uint64_t index, enter_grant(gntdev.get(), domain, numbers.ring_ref));

        const EvtchnHandle evtchn(xenevtchn_open(nullptr, 0));
        if (!evtchn) return fail_errno("open /dev/xen/evtchn");
        // From here on this handle reaches no other domain, whoever holds it.
        if (xenevtchn_restrict(evtchn.get(), static_cast<domid_t>(domain)) != 0) return fail_errno("restrict evtchn");
        const auto port = xenevtchn_bind_interdomain(evtchn.get(), domain, numbers.event_channel);
        if (port < 0) return fail_errno("bind event channel {}", numbers.event_channel);

        // The handle closes its own descriptor; the binding stays with the duplicate.
        UniqueFd duplicate(::fcntl(xenevtchn_fd(evtchn.get()), F_DUPFD_CLOEXEC, 3));
        if (!duplicate) return fail_errno("duplicate evtchn");
        return OpenedRing{
            {.transport = Transport::kXen, .grant_index = index, .port = static_cast<std::uint32_t>(port)},
            {std::move(gntdev), std::move(duplicate), UniqueFd()}};
    }
};

}  // namespace

std::unique_ptr<RingOpener> make_xen_ring_opener() { return std::make_unique<XenRingOpener>(); }

}  // namespace vtpm
