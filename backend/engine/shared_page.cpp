// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/shared_page.hpp"

#include <sys/ioctl.h>
#include <sys/mman.h>

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstring>
#include <utility>

#include "shared-protocol/tpm_message.hpp"

extern "C" {
// gntdev.h uses types of the other two.
#include <xen/grant_table.h>
#include <xen/sys/gntdev.h>
#include <xen/xen.h>
}

namespace vtpm {
namespace {

static_assert(std::endian::native == std::endian::little, "the page is little endian, and so are Xen's hosts");

}  // namespace

Result<SharedPage> SharedPage::map(int fd, std::uint64_t offset) {
    void *page = ::mmap(nullptr, TPMIF_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(offset));
    if (page == MAP_FAILED) return fail_errno("map the guest's page");
    return SharedPage(page);
}

Result<SharedPage> SharedPage::map_grant(int gntdev, std::uint64_t index, std::uint32_t port) {
    auto page = map(gntdev, index);
    if (!page) return page;
    ioctl_gntdev_unmap_notify notify{};
    notify.index = index + offsetof(tpmif_header, state);
    notify.action = UNMAP_NOTIFY_CLEAR_BYTE | UNMAP_NOTIFY_SEND_EVENT;
    notify.event_channel_port = port;
    if (::ioctl(gntdev, IOCTL_GNTDEV_SET_UNMAP_NOTIFY, &notify) != 0) return fail_errno("set the unmap notification");
    return page;
}

Result<SharedPage> SharedPage::map_memory(int memfd) { return map(memfd, 0); }

SharedPage::SharedPage(SharedPage &&other) noexcept
    : page_(std::exchange(other.page_, nullptr)), data_offset_(other.data_offset_) {}

SharedPage &SharedPage::operator=(SharedPage &&other) noexcept {
    if (this != &other) {
        unmap();
        page_ = std::exchange(other.page_, nullptr);
        data_offset_ = other.data_offset_;
    }
    return *this;
}

SharedPage::~SharedPage() { unmap(); }

void SharedPage::unmap() {
    if (page_ != nullptr) (void)::munmap(page_, TPMIF_PAGE_SIZE);
}

SharedPage::Taken SharedPage::take() {
    // One load of all eight bytes is the snapshot: length, state and extra pages belong together. Acquire, so that
    // the copy below is not older than the state that announced it. mmap aligns the page.
    const std::uint64_t raw =
        std::atomic_ref(*reinterpret_cast<std::uint64_t *>(page_)).load(std::memory_order_acquire);
    tpmif_header header;
    std::memcpy(&header, &raw, sizeof header);

    if (header.state == TPMIF_STATE_CANCEL) return {.event = Event::kCancel};
    if (header.state != TPMIF_STATE_SUBMIT) return {};

    data_offset_ = TPMIF_DATA_OFFSET(std::size_t{header.nr_extra_pages});  // at most 1028
    Taken taken{.event = Event::kMalformed, .locality = header.locality};
    if (header.length < TPM_MESSAGE_HEADER_SIZE || header.length > room()) return taken;
    std::memcpy(copy_.data(), page_ + data_offset_, header.length);
    const ByteView command = ByteView(copy_).first(header.length);
    if (tpm_size(command) != command.size()) return taken;
    taken.event = Event::kCommand;
    taken.command = command;
    return taken;
}

void SharedPage::publish(ByteView response) {
    require(response.size() <= room(), "a response fits into the page");
    std::memcpy(page_ + data_offset_, response.data(), response.size());
    std::atomic_ref(*reinterpret_cast<std::uint32_t *>(page_ + offsetof(tpmif_header, length)))
        .store(static_cast<std::uint32_t>(response.size()), std::memory_order_relaxed);
    set_state(TPMIF_STATE_FINISH);
}

void SharedPage::acknowledge_cancel() { set_state(TPMIF_STATE_IDLE); }

void SharedPage::set_state(std::uint8_t state) {
    // Release: whoever sees the state sees the length and the data that were written before it.
    std::atomic_ref(page_[offsetof(tpmif_header, state)]).store(state, std::memory_order_release);
}

}  // namespace vtpm
