// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/seqpacket.hpp"
#include "expect.hpp"
#include "shared-protocol/messages.hpp"

// An engine's end of a state channel, as far as a test needs it. The answer's views live until the next receive().
class EngineEnd {
public:
    explicit EngineEnd(vtpm::UniqueFd socket) : socket_(std::move(socket)) {}

    template <typename Message>
    void send(const Message &message) {
        vtpm::Bytes buffer(vtpm::kMaxMessage);
        expect(vtpm::send_message(socket_.get(), vtpm::encode(message, buffer)));
    }
    template <typename Message>
    Message receive() {
        expect(vtpm::wait_readable(socket_.get(), std::chrono::seconds(20)));
        const auto received = expect(vtpm::receive_message(socket_.get(), buffer_));
        return expect(vtpm::decode<Message>(vtpm::ByteView(buffer_).first(received.size)));
    }
    // Whether the manager closed its end. Asks for nothing.
    bool closed() {
        expect(vtpm::wait_readable(socket_.get(), std::chrono::seconds(20)));
        const auto received = vtpm::receive_message(socket_.get(), buffer_);
        return !received || received->size == 0;
    }
    void store(vtpm::ByteView state) { send(vtpm::StoreState{vtpm::StateKind::kPermanent, state}); }
    void load(vtpm::StateKind kind = vtpm::StateKind::kPermanent) { send(vtpm::LoadState{kind}); }
    [[nodiscard]] int fd() const { return socket_.get(); }
    void close() { socket_.reset(); }

private:
    vtpm::UniqueFd socket_;
    vtpm::Bytes buffer_ = vtpm::Bytes(vtpm::kMaxMessage);
};
