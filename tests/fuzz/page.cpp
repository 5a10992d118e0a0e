// SPDX-License-Identifier: Apache-2.0
// The page as a guest left it: a command is whole and bounded, and a response stays within the page.
#include "backend/engine/shared_page.hpp"

#include <algorithm>
#include <cstring>

#include "tests/fakes/loopback_guest.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    using namespace vtpm;
    static LoopbackGuest guest;
    static SharedPage page = [] {
        auto ring = guest.ring();
        auto mapped = SharedPage::map_memory(ring.fds[0].get());
        require(mapped.has_value(), "the page is mapped");
        return std::move(*mapped);
    }();
    std::ranges::fill(guest.page(), std::uint8_t{0});
    std::copy_n(data, std::min<std::size_t>(size, TPMIF_PAGE_SIZE), guest.page().begin());
    const Bytes before(guest.page().begin(), guest.page().end());

    const SharedPage::Taken taken = page.take();
    require(std::ranges::equal(before, guest.page()), "taking changes nothing");
    if (taken.event == SharedPage::Event::kCommand) {
        require(taken.command.size() >= TPM_MESSAGE_HEADER_SIZE, "a command has a header");
        require(taken.command.size() <= page.room(), "a command is within the page");
    }
    if (taken.event == SharedPage::Event::kNothing || taken.event == SharedPage::Event::kCancel) return 0;
    const Bytes response(page.room(), 0x5a);
    page.publish(response);
    require(guest.response(std::chrono::milliseconds(0)) == response, "the guest finds the response");
    return 0;
}
