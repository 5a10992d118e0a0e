// SPDX-License-Identifier: Apache-2.0
// libxen's headers (4.17 lack extern "C") and owners for their handles.
#pragma once

extern "C" {
#include <xenevtchn.h>
#include <xenstore.h>
}

#include <memory>

namespace vtpm {

struct CloseEvtchn {
    void operator()(xenevtchn_handle *handle) const { (void)xenevtchn_close(handle); }
};
using EvtchnHandle = std::unique_ptr<xenevtchn_handle, CloseEvtchn>;

struct CloseXenstore {
    void operator()(xs_handle *handle) const { xs_close(handle); }
};
using XenstoreHandle = std::unique_ptr<xs_handle, CloseXenstore>;

}  // namespace vtpm
