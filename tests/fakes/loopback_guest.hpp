// SPDX-License-Identifier: Apache-2.0
// A guest without Xen: a memfd in the place of the granted page, eventfds in the place of the event channel, on the
// engine program's own loopback transport.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <map>

#include "backend/xen/ring_opener.hpp"
#include "base/bytes.hpp"
#include "shared-protocol/tpmif.h"

namespace vtpm {

class LoopbackGuest {
public:
    LoopbackGuest()
        : memory_(::memfd_create("page", MFD_CLOEXEC)),
          to_engine_(::eventfd(0, EFD_CLOEXEC)),
          to_guest_(::eventfd(0, EFD_CLOEXEC)) {
        require(::ftruncate(memory_.get(), TPMIF_PAGE_SIZE) == 0, "a memfd of one page");
        void *page = ::mmap(nullptr, TPMIF_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory_.get(), 0);
        require(page != MAP_FAILED, "the page is mapped");
        page_ = static_cast<std::uint8_t *>(page);
    }
    ~LoopbackGuest() { (void)::munmap(page_, TPMIF_PAGE_SIZE); }
    LoopbackGuest(const LoopbackGuest &) = delete;
    LoopbackGuest &operator=(const LoopbackGuest &) = delete;

    // What an engine gets of this guest.
    [[nodiscard]] OpenedRing ring() const {
        return {{.transport = Transport::kLoopback}, {copy(memory_), copy(to_engine_), copy(to_guest_)}};
    }

    // Raw access, for guests that do as they please.
    [[nodiscard]] MutableBytes page() { return {page_, TPMIF_PAGE_SIZE}; }
    void write_header(std::uint32_t length, std::uint8_t state, std::uint8_t locality = 0, std::uint8_t extra = 0) {
        tpmif_header header{length, TPMIF_STATE_IDLE, locality, 0, extra};
        std::memcpy(page_, &header, sizeof header);
        std::atomic_ref(page_[offsetof(tpmif_header, state)]).store(state, std::memory_order_release);
    }
    void notify() { (void)::eventfd_write(to_engine_.get(), 1); }
    // Readable when the engine has rung.
    [[nodiscard]] int fd() const { return to_guest_.get(); }
    [[nodiscard]] std::uint8_t state() {
        return std::atomic_ref(page_[offsetof(tpmif_header, state)]).load(std::memory_order_acquire);
    }

    void submit(ByteView command, std::uint8_t locality = 0) {
        std::memcpy(page_ + TPMIF_DATA_OFFSET(0), command.data(), command.size());
        write_header(static_cast<std::uint32_t>(command.size()), TPMIF_STATE_SUBMIT, locality);
        notify();
    }

    // The response, or nothing if there is none within `limit` (or the command ended as cancelled).
    Bytes response(std::chrono::milliseconds limit = std::chrono::seconds(20)) {
        const auto deadline = std::chrono::steady_clock::now() + limit;
        while (state() == TPMIF_STATE_SUBMIT || state() == TPMIF_STATE_CANCEL) {
            if (std::chrono::steady_clock::now() > deadline) return {};
            pollfd waiting{to_guest_.get(), POLLIN, 0};
            eventfd_t count = 0;
            if (::poll(&waiting, 1, 50) > 0) (void)::eventfd_read(to_guest_.get(), &count);
        }
        if (state() != TPMIF_STATE_FINISH) return {};
        tpmif_header header;
        std::memcpy(&header, page_, sizeof header);
        const std::uint8_t *data = page_ + TPMIF_DATA_OFFSET(header.nr_extra_pages);
        return {data, data + header.length};
    }

    Bytes execute(ByteView command) {
        submit(command);
        return response();
    }

private:
    static UniqueFd copy(const UniqueFd &fd) { return UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)); }

    UniqueFd memory_;
    UniqueFd to_engine_;
    UniqueFd to_guest_;
    std::uint8_t *page_ = nullptr;
};

// Gives each domain's engine the ring of the loopback guest that a test has put there.
class LoopbackRings final : public RingOpener {
public:
    Result<OpenedRing> open(std::uint32_t domain, RingNumbers numbers) override {
        const auto guest = guests.find(domain);
        ++tried;
        if (short_of_memory) return fail(ErrorCode::kShortage, "as the test wants it");
        if (guest == guests.end() || numbers.ring_ref == kBadRingRef) return fail(ErrorCode::kSystem, "no such grant");
        ++opened;
        return guest->second->ring();
    }

    static constexpr std::uint32_t kBadRingRef = 666;
    std::map<std::uint32_t, LoopbackGuest *> guests;
    int tried = 0;
    int opened = 0;
    bool short_of_memory = false;
};

}  // namespace vtpm
