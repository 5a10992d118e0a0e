// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/event_channel.hpp"

#include <sys/eventfd.h>

#include "backend/xen/libxen.hpp"

namespace vtpm {
namespace {

// A failing notification or acknowledgement means that the guest is gone; the daemon learns that from xenstore and
// detaches the ring. There is nothing to do about it here.

class XenEventChannel final : public EventChannel {
public:
    XenEventChannel(EvtchnHandle handle, std::uint32_t port) : handle_(std::move(handle)), port_(port) {}

    [[nodiscard]] int fd() const override { return xenevtchn_fd(handle_.get()); }
    void acknowledge() override {
        const auto pending = xenevtchn_pending(handle_.get());
        if (pending >= 0) (void)xenevtchn_unmask(handle_.get(), static_cast<evtchn_port_t>(pending));
    }
    void notify() override { (void)xenevtchn_notify(handle_.get(), port_); }

private:
    EvtchnHandle handle_;
    std::uint32_t port_;
};

class LoopbackEventChannel final : public EventChannel {
public:
    LoopbackEventChannel(UniqueFd wait, UniqueFd notify) : wait_(std::move(wait)), notify_(std::move(notify)) {}

    [[nodiscard]] int fd() const override { return wait_.get(); }
    void acknowledge() override {
        eventfd_t count = 0;
        (void)::eventfd_read(wait_.get(), &count);
    }
    void notify() override { (void)::eventfd_write(notify_.get(), 1); }

private:
    UniqueFd wait_;
    UniqueFd notify_;
};

}  // namespace

Result<std::unique_ptr<EventChannel>> EventChannel::xen(UniqueFd evtchn, std::uint32_t port) {
    EvtchnHandle handle(xenevtchn_fdopen(nullptr, evtchn.get(), 0));
    if (!handle) return fail_errno("xenevtchn_fdopen");
    (void)evtchn.release();  // the handle owns it now
    return std::make_unique<XenEventChannel>(std::move(handle), port);
}

std::unique_ptr<EventChannel> EventChannel::loopback(UniqueFd wait, UniqueFd notify) {
    return std::make_unique<LoopbackEventChannel>(std::move(wait), std::move(notify));
}

}  // namespace vtpm
