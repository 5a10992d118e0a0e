// SPDX-License-Identifier: Apache-2.0
// echo DOMAIN GRANT-REFERENCE PORT 2.0|1.2: the other side of pingpong.ko, in dom0's user space. At each event it has a
// new TPM of libtpms answer the message in the page, if there is one, clears the page's first byte, and sends an event
// back. Ends with its guest, or by a signal.
#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string_view>

extern "C" {
#include <libtpms/tpm_error.h>
#include <libtpms/tpm_library.h>
#include <xenevtchn.h>
#include <xengnttab.h>
}

namespace {

struct Page {
    std::uint8_t busy;
    std::uint32_t length;
    unsigned char message[4088];
};
static_assert(sizeof(Page) == 4096);

// libtpms without anything around it: nothing is stored, nothing is checked.
class Tpm {
public:
    explicit Tpm(bool is_2) {
        libtpms_callbacks callbacks{};
        callbacks.sizeOfStruct = sizeof(callbacks);
        callbacks.tpm_nvram_init = [] { return TPM_RESULT{TPM_SUCCESS}; };
        callbacks.tpm_nvram_loaddata = [](unsigned char **, std::uint32_t *, std::uint32_t, const char *) {
            return TPM_RESULT{TPM_RETRY};  // there is none
        };
        callbacks.tpm_nvram_storedata = [](const unsigned char *, std::uint32_t, std::uint32_t, const char *) {
            return TPM_RESULT{TPM_SUCCESS};
        };
        callbacks.tpm_nvram_deletename = [](std::uint32_t, const char *, TPM_BOOL) { return TPM_RESULT{TPM_SUCCESS}; };
        if (TPMLIB_ChooseTPMVersion(is_2 ? TPMLIB_TPM_VERSION_2 : TPMLIB_TPM_VERSION_1_2) != TPM_SUCCESS ||
            TPMLIB_RegisterCallbacks(&callbacks) != TPM_SUCCESS || TPMLIB_MainInit() != TPM_SUCCESS)
            throw std::runtime_error("libtpms cannot start a TPM");
        Page page{0, 12, {}};
        std::memcpy(page.message, is_2 ? "\x80\x01\0\0\0\x0c\0\0\x01\x44\0\0" : "\0\xc1\0\0\0\x0c\0\0\0\x99\0\x01", 12);
        answer(page);
        if (std::memcmp(page.message + 6, "\0\0\0\0", 4) != 0) throw std::runtime_error("the TPM does not start");
    }

    void answer(Page &page) {
        if (TPMLIB_Process(&response_, &page.length, &capacity_, page.message, page.length) != TPM_SUCCESS)
            throw std::runtime_error("libtpms fails");
        std::memcpy(page.message, response_, page.length);
    }

private:
    unsigned char *response_ = nullptr;
    std::uint32_t capacity_ = 0;
};

std::uint32_t number(const char *text) { return static_cast<std::uint32_t>(std::strtoul(text, nullptr, 10)); }

int serve(std::uint32_t domain, std::uint32_t grant, std::uint32_t channel, Tpm tpm) {
    xengnttab_handle *grants = xengnttab_open(nullptr, 0);
    xenevtchn_handle *events = xenevtchn_open(nullptr, 0);
    if (!grants || !events) return std::perror("echo: /dev/xen/gntdev, /dev/xen/evtchn"), 1;
    auto *page = static_cast<Page *>(xengnttab_map_grant_ref(grants, domain, grant, PROT_READ | PROT_WRITE));
    const int port = page ? xenevtchn_bind_interdomain(events, domain, channel) : -1;
    if (port < 0) return std::perror("echo: the guest's page or event channel"), 1;

    std::atomic_ref busy(page->busy);
    for (;;) {
        const int pending = xenevtchn_pending(events);
        if (pending < 0) break;
        if (busy.load(std::memory_order_acquire) != 0 && page->length != 0) tpm.answer(*page);
        busy.store(0, std::memory_order_release);
        if (xenevtchn_notify(events, static_cast<evtchn_port_t>(port)) != 0) break;
        if (xenevtchn_unmask(events, static_cast<evtchn_port_t>(pending)) != 0) break;
    }
    return std::perror("echo"), 1;
}

}  // namespace

int main(int argc, char **argv) try {
    if (argc != 5) return std::fputs("usage: echo DOMAIN GRANT-REFERENCE PORT 2.0|1.2\n", stderr), 2;
    return serve(number(argv[1]), number(argv[2]), number(argv[3]), Tpm(argv[4] == std::string_view("2.0")));
} catch (const std::exception &error) {
    return std::fprintf(stderr, "echo: %s\n", error.what()), 1;
}
