// SPDX-License-Identifier: Apache-2.0
// A manager for a TPM of this process.
#pragma once

#include <sys/socket.h>

#include <thread>

#include "backend/engine/tpm.hpp"
#include "base/seqpacket.hpp"

namespace vtpm {

// The manager's end of the state channel, with the state in memory.
class MemoryStore {
public:
    explicit MemoryStore(Bytes state) : state_(std::move(state)) {}

    ManagerChannel open() { return ManagerChannel(open_socket()); }
    // After this a former channel finds that its manager is gone.
    UniqueFd open_socket() {
        close();
        auto ends = make_seqpacket_pair();
        require(ends.has_value(), "a socket pair");
        socket_ = std::move(ends->ours);
        server_ = std::jthread([this, socket = socket_.get()] { serve(socket); });
        return std::move(ends->theirs);
    }
    void close() {
        if (!server_.joinable()) return;
        (void)::shutdown(socket_.get(), SHUT_RDWR);
        server_.join();
    }
    // Once the channel is closed.
    const Bytes &state() {
        if (server_.joinable()) server_.join();
        return state_;
    }

private:
    void serve(int socket) {
        Bytes buffer(kMaxMessage);
        Bytes out(kMaxMessage);
        for (;;) {
            const auto received = receive_message(socket, buffer);
            if (!received || received->size == 0) return;
            const ByteView message = ByteView(buffer).first(received->size);
            if (const auto store = decode<StoreState>(message)) {
                state_.assign(store->state.begin(), store->state.end());
                (void)send_message(socket, encode(StoredState{ErrorCode::kNone, ++sequence_, ""}, out));
            } else if (decode<ManufactureStep>(message)) {
                (void)send_message(socket, encode(ManufactureCommand{}, out));
            } else if (const auto ask = decode<AskAttestation>(message)) {
                // Three parts of it, or not yet.
                const ErrorCode code = ask->nonce[0] % 2 == 0 ? ErrorCode::kNone : ErrorCode::kUnavailable;
                (void)send_message(socket, encode(GiveAttestation{code, "", ByteView(kAttestation)}, out));
            } else if (decode<PowerOn>(message)) {
                (void)send_message(socket, encode(PowerOnCommands{}, out));
            } else {
                const auto code = state_.empty() ? ErrorCode::kNotFound : ErrorCode::kNone;
                (void)send_message(socket, encode(LoadedState{code, sequence_, "", state_}, out));
            }
        }
    }

    inline static const Bytes kAttestation = Bytes(5000, 'a');
    Bytes state_;
    std::uint64_t sequence_ = 1;
    UniqueFd socket_;
    std::jthread server_;
};

// The state of a TPM that was made and powered off.
inline Bytes manufacture(TpmVersion version) {
    MemoryStore store({});
    {
        const auto tpm = Tpm::power_on(version, store.open());
        require(tpm.has_value() && (*tpm)->power_off().has_value(), "a new TPM");
    }
    return store.state();
}

}  // namespace vtpm
