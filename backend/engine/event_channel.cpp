// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/event_channel.hpp"

#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

extern "C" {
#include <xen/event_channel.h>
#include <xen/sys/evtchn.h>
#include <xen/xen.h>
}

namespace vtpm {
namespace {

// A failing notification or acknowledgement means that the guest is gone; the daemon learns that from xenstore and
// detaches the ring. There is nothing to do about it here.

// Linux' /dev/xen/evtchn itself: reading takes a port's event and masks it, writing unmasks it. (libxenevtchn would
// bring a logger and its system calls into the sandbox.)
class XenEventChannel final : public EventChannel {
public:
    XenEventChannel(UniqueFd evtchn, std::uint32_t port) : evtchn_(std::move(evtchn)), port_(port) {}

    [[nodiscard]] int fd() const override { return evtchn_.get(); }
    // The port stays masked until end(), and Xen keeps what rings meanwhile: both system calls can wait until the
    // guest has its answer.
    void begin() override {}
    void end() override {
        std::uint32_t pending = 0;
        if (::read(evtchn_.get(), &pending, sizeof pending) == sizeof pending)
            (void)!::write(evtchn_.get(), &pending, sizeof pending);
    }
    void notify() override {
        ioctl_evtchn_notify notification{port_};
        (void)::ioctl(evtchn_.get(), IOCTL_EVTCHN_NOTIFY, &notification);
    }

private:
    UniqueFd evtchn_;
    std::uint32_t port_;
};

class LoopbackEventChannel final : public EventChannel {
public:
    LoopbackEventChannel(UniqueFd wait, UniqueFd notify) : wait_(std::move(wait)), notify_(std::move(notify)) {}

    [[nodiscard]] int fd() const override { return wait_.get(); }
    void begin() override {
        eventfd_t count = 0;
        (void)::eventfd_read(wait_.get(), &count);
    }
    void end() override {}
    void notify() override { (void)::eventfd_write(notify_.get(), 1); }

private:
    UniqueFd wait_;
    UniqueFd notify_;
};

}  // namespace

std::unique_ptr<EventChannel> EventChannel::xen(UniqueFd evtchn, std::uint32_t port) {
    return std::make_unique<XenEventChannel>(std::move(evtchn), port);
}

std::unique_ptr<EventChannel> EventChannel::loopback(UniqueFd wait, UniqueFd notify) {
    return std::make_unique<LoopbackEventChannel>(std::move(wait), std::move(notify));
}

}  // namespace vtpm
