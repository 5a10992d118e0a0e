// SPDX-License-Identifier: Apache-2.0
#include "backend/device/frontend_watch.hpp"

#include <utility>

#include "base/log.hpp"

namespace vtpm {
namespace {

// Of looks. A driver that is loaded causes some ten.
constexpr int kLookBurst = 50;

}  // namespace

FrontendWatch::FrontendWatch(DeviceServices &services, DeviceId id, std::function<void()> look)
    : services_(services),
      id_(id),
      path_(frontend_path(id) + "/state"),
      look_(std::move(look)),
      allowance_(kLookBurst, services.reconcile_interval) {
    watch();
}

FrontendWatch::~FrontendWatch() { services_.xenstore.unwatch(path_, to_string(id_)); }

void FrontendWatch::watch() {
    if (const auto watched = services_.xenstore.watch(path_, to_string(id_)); !watched)
        log::warning("device {}: {}", to_string(id_), watched.error().text);
}

bool FrontendWatch::may_look() {
    if (rests_) return false;
    return allowance_.take() || !rest();
}

// A guest that writes without end makes us write, and hear of that too. Without a watch xenstored tells us nothing of
// it: the guest has its flood to itself.
bool FrontendWatch::rest() {
    auto timer = services_.loop.after(services_.reconcile_interval, [this] {
        rests_ = false;
        watch();
        look_();
    });
    if (!timer) return false;
    rest_ = std::move(*timer);
    rests_ = true;
    services_.xenstore.unwatch(path_, to_string(id_));
    return true;
}

}  // namespace vtpm
