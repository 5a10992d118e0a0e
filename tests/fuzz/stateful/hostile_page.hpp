// SPDX-License-Identifier: Apache-2.0
// A guest's page in the hands of a kernel that does as it likes with it, and at times what it should.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>

#include "shared-protocol/tpm_message.hpp"
#include "tests/fakes/loopback_guest.hpp"
#include "tests/fakes/tpm_commands.hpp"
#include "tests/fuzz/stateful/input.hpp"

namespace vtpm {

class HostilePage {
public:
    // One hostile action.
    void act(Input &input) {
        constexpr std::array kActions{&HostilePage::submit_whole,
                                      &HostilePage::submit_changed,
                                      &HostilePage::submit_noise,
                                      &HostilePage::submit_malformed,
                                      &HostilePage::write_header,
                                      &HostilePage::write_byte,
                                      &HostilePage::fill,
                                      &HostilePage::write_state,
                                      &HostilePage::cancel,
                                      &HostilePage::ring_storm,
                                      &HostilePage::change_submitted};
        (this->*input.one_of(kActions))(input);
    }

    // As a well-behaved guest does, once nothing of former actions is under way; `wait` runs what must run until its
    // argument is true, and says whether it is. Nothing: there is no answer.
    using Wait = std::function<bool(const std::function<bool()> &done)>;
    Bytes exchange(ByteView command, const Wait &wait) {
        // A cancelled command may have its response or not, but then it is over.
        guest.write_header(0, TPMIF_STATE_CANCEL);
        guest.notify();
        if (!wait([&] { return guest.state() != TPMIF_STATE_CANCEL; })) return {};
        guest.submit(command);
        if (!wait([&] { return guest.state() != TPMIF_STATE_SUBMIT; })) return {};
        if (guest.state() != TPMIF_STATE_FINISH) return {};
        tpmif_header header;
        std::memcpy(&header, guest.page().data(), sizeof header);
        require(header.length >= TPM_MESSAGE_HEADER_SIZE && header.length <= TPMIF_MAX_MESSAGE,
                "a response has a header, and fits into the page");
        const Bytes response = guest.response(std::chrono::milliseconds(0));
        require(tpm_size(response) == response.size(), "a response has the size that it claims");
        return response;
    }

    LoopbackGuest guest;

private:
    // Index 0 is its own, so that what the tests keep in another one stays.
    static Bytes command_of(Input &input) {
        constexpr std::uint32_t kIndex = 0x01500100;
        switch (input.below(10)) {
            case 0:
                return commands::pcr_read(static_cast<unsigned>(input.below(24)));
            case 1:
                return commands::pcr_extend(static_cast<std::uint8_t>(input.below(24)), input.byte());
            case 2:
                return commands::pcr_event(static_cast<std::uint8_t>(input.below(24)), input.bytes(input.below(8)));
            case 3:
                return commands::nv_define(kIndex, input.byte());
            case 4:
                return commands::nv_write(kIndex, input.bytes(input.below(16)));
            case 5:
                return commands::nv_read(kIndex, input.byte());
            case 6:
                return commands::enable_platform();
            case 7:
                return commands::tpm12_version();
            default:
                return commands::get_random();
        }
    }

    void put(std::size_t offset, ByteView bytes) {
        const MutableBytes page = guest.page();
        const std::size_t begin = std::min(offset, page.size());
        std::ranges::copy(bytes.first(std::min(bytes.size(), page.size() - begin)), page.data() + begin);
    }
    void submit_whole(Input &input) { guest.submit(command_of(input)); }
    void submit_changed(Input &input) {
        Bytes command = command_of(input);
        for (std::size_t i = input.below(4); i < 4; ++i) command[input.below(command.size())] = input.byte();
        if (input.below(4) != 0) commands::set_size(command);
        guest.submit(command);
    }
    void submit_noise(Input &input) {
        Bytes command = input.bytes(TPM_MESSAGE_HEADER_SIZE + input.below(32));
        commands::set_size(command);
        command[0] = 0x80;  // the tags of TPM 2.0, so that more than that is looked at
        command[1] = static_cast<std::uint8_t>(1 + input.below(2));
        command[6] = command[7] = 0;
        command[8] = 1;
        guest.submit(command);
    }
    void submit_malformed(Input &input) {
        const Bytes command = command_of(input);
        const std::uint8_t extra = input.byte();
        put(TPMIF_DATA_OFFSET(std::size_t{extra}), command);
        constexpr std::array<std::uint32_t, 9> kLengths{0, 9, 10, 11, 4087, 4088, 4089, 0x7fffffff, 0xffffffff};
        guest.write_header(input.below(2) == 0 ? static_cast<std::uint32_t>(command.size()) : input.one_of(kLengths),
                           TPMIF_STATE_SUBMIT, input.below(3) == 0 ? input.byte() : std::uint8_t{0}, extra);
        guest.notify();
    }
    void write_header(Input &input) { put(0, input.bytes(sizeof(tpmif_header))); }
    void write_byte(Input &input) { put(input.word() % TPMIF_PAGE_SIZE, input.bytes(1)); }
    void fill(Input &input) {
        const std::size_t offset = input.word() % TPMIF_PAGE_SIZE;
        put(offset, Bytes(input.word() % TPMIF_PAGE_SIZE, input.byte()));
    }
    void write_state(Input &input) {
        constexpr std::array<std::uint8_t, 6> kStates{
            TPMIF_STATE_IDLE, TPMIF_STATE_SUBMIT, TPMIF_STATE_FINISH, TPMIF_STATE_CANCEL, 4, 255};
        put(offsetof(tpmif_header, state), std::array{input.one_of(kStates)});
        if (input.below(2) == 0) guest.notify();
    }
    void cancel(Input &) {
        put(offsetof(tpmif_header, state), std::array<std::uint8_t, 1>{TPMIF_STATE_CANCEL});
        guest.notify();
    }
    void ring_storm(Input &input) {
        for (std::size_t i = input.below(64); i < 64; ++i) guest.notify();
    }
    // While the engine may be reading it: what it has judged is not to be what it uses.
    void change_submitted(Input &input) {
        const Bytes command = command_of(input);
        const std::uint8_t length[] = {input.byte(), input.byte(), input.byte(), 0};
        guest.submit(command);
        for (std::size_t i = input.below(64); i < 64; ++i) {
            put(0, length);
            put(TPMIF_DATA_OFFSET(0) + TPM_MESSAGE_SIZE_OFFSET, length);
            put(offsetof(tpmif_header, nr_extra_pages), ByteView(length).first(1));
            put(0, std::array{static_cast<std::uint8_t>(command.size()), std::uint8_t{0}, std::uint8_t{0}});
            put(TPMIF_DATA_OFFSET(0), command);
        }
    }
};

}  // namespace vtpm
