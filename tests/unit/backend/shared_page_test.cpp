// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/shared_page.hpp"

#include <chrono>
#include <random>
#include <thread>
#include "tests/catch.hpp"

#include "base/big_endian.hpp"
#include "tests/fakes/loopback_guest.hpp"
#include "tests/fakes/tpm_commands.hpp"

namespace vtpm {
namespace {

SharedPage map(const LoopbackGuest &guest) {
    auto page = SharedPage::map_memory(guest.ring().fds[0].get());
    REQUIRE(page);
    return std::move(*page);
}

}  // namespace

TEST_CASE("a page that was not submitted holds nothing") {
    LoopbackGuest guest;
    SharedPage page = map(guest);
    CHECK(page.take().event == SharedPage::Event::kNothing);
    guest.write_header(10, TPMIF_STATE_FINISH);
    CHECK(page.take().event == SharedPage::Event::kNothing);
}

TEST_CASE("a command is copied: the guest cannot change it afterwards") {
    LoopbackGuest guest;
    SharedPage page = map(guest);
    const Bytes command = commands::get_random();
    guest.submit(command, 3);
    const SharedPage::Taken taken = page.take();
    REQUIRE(taken.event == SharedPage::Event::kCommand);
    CHECK(taken.locality == 3);
    std::fill(guest.page().begin(), guest.page().end(), 0xff);
    CHECK(Bytes(taken.command.begin(), taken.command.end()) == command);
}

TEST_CASE("extra pages move the data, and the response goes where the command was") {
    LoopbackGuest guest;
    SharedPage page = map(guest);
    const Bytes command = commands::get_random();
    for (const int extra : {1, 7, 255}) {
        std::memcpy(guest.page().data() + 8 + 4 * extra, command.data(), command.size());
        guest.write_header(static_cast<std::uint32_t>(command.size()), TPMIF_STATE_SUBMIT, 0,
                           static_cast<std::uint8_t>(extra));
        REQUIRE(page.take().event == SharedPage::Event::kCommand);
        CHECK(page.room() == 4096U - 8U - 4U * static_cast<unsigned>(extra));
        page.publish(command);
        CHECK(guest.response() == command);
    }
}

TEST_CASE("the largest message fits, one byte more does not") {
    LoopbackGuest guest;
    SharedPage page = map(guest);
    for (const std::uint32_t size : {4088U, 4089U}) {
        const Bytes command = commands::Command(0, 0).data(Bytes(size - TPM_MESSAGE_HEADER_SIZE, 0)).build();
        std::memcpy(guest.page().data() + 8, command.data(), 4088);
        guest.write_header(size, TPMIF_STATE_SUBMIT);
        CHECK(page.take().event == (size == 4088 ? SharedPage::Event::kCommand : SharedPage::Event::kMalformed));
    }
}

TEST_CASE("a guest that rewrites its page all the time never gets past the copy") {
    LoopbackGuest guest;
    SharedPage page = map(guest);
    std::atomic<bool> stop = false;
    std::thread scribbler([&] {
        std::minstd_rand random(1);
        while (!stop) {
            const auto length = static_cast<std::uint32_t>(random() % 5000);
            for (std::size_t i = 0; i < 4; ++i)
                std::atomic_ref(guest.page()[10 + i]).store(static_cast<std::uint8_t>(length >> (24 - 8 * i)));
            guest.write_header(length, TPMIF_STATE_SUBMIT, 0,
                               static_cast<std::uint8_t>(random() % 8 == 0 ? random() : 0));
        }
    });
    // By count, not by time or turns: the other thread may be slow to start.
    int commands_seen = 0;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (commands_seen < 10'000 && std::chrono::steady_clock::now() < deadline) {
        const SharedPage::Taken taken = page.take();
        if (taken.event != SharedPage::Event::kCommand) continue;
        ++commands_seen;
        const std::size_t claimed = big_endian(taken.command.subspan(2, 4));
        REQUIRE(claimed == taken.command.size());
        REQUIRE(taken.command.size() <= page.room());
    }
    stop = true;
    scribbler.join();
    CHECK(commands_seen == 10'000);
}

}  // namespace vtpm
