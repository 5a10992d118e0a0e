// SPDX-License-Identifier: Apache-2.0
// echo DOMAIN GRANT-REFERENCE PORT: the other side of pingpong.ko, in dom0's user space. Clears the first byte of the
// page at each event, and sends one back. Ends with its guest, or by a signal.
#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

extern "C" {
#include <xenevtchn.h>
#include <xengnttab.h>
}

int main(int argc, char **argv) {
    if (argc != 4) return std::fputs("usage: echo DOMAIN GRANT-REFERENCE PORT\n", stderr), 2;
    const auto number = [argv](int index) {
        return static_cast<std::uint32_t>(std::strtoul(argv[index], nullptr, 10));
    };

    xengnttab_handle *grants = xengnttab_open(nullptr, 0);
    xenevtchn_handle *events = xenevtchn_open(nullptr, 0);
    if (!grants || !events) return std::perror("echo: /dev/xen/gntdev, /dev/xen/evtchn"), 1;
    void *page = xengnttab_map_grant_ref(grants, number(1), number(2), PROT_READ | PROT_WRITE);
    const int port = page ? xenevtchn_bind_interdomain(events, number(1), number(3)) : -1;
    if (port < 0) return std::perror("echo: the guest's page or event channel"), 1;

    std::atomic_ref flag(*static_cast<std::uint8_t *>(page));
    for (;;) {
        const int pending = xenevtchn_pending(events);
        if (pending < 0 || xenevtchn_unmask(events, static_cast<evtchn_port_t>(pending)) != 0) break;
        flag.store(0, std::memory_order_release);
        if (xenevtchn_notify(events, static_cast<evtchn_port_t>(port)) != 0) break;
    }
    return std::perror("echo"), 1;
}
