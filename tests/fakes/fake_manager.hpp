// SPDX-License-Identifier: Apache-2.0
// A manager with its store in memory and its faults at a test's command. The real one's behaviour towards the backend
// is shown by tests/integration/manager and tests/lab.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <list>
#include <map>
#include <string>

#include "base/event_loop.hpp"
#include "base/seqpacket.hpp"
#include "base/uuid.hpp"
#include "shared-protocol/messages.hpp"

namespace vtpm {

class FakeManager {
public:
    struct Stored {
        TpmVersion version = TpmVersion::k20;
        std::uint64_t sequence = 0;
        Bytes state;
        Bytes volatile_state{};  // empty: there is none
    };

    FakeManager(EventLoop &loop, std::string path) : loop_(loop), path_(std::move(path)) { start(); }

    void start() {
        auto listener = listen_seqpacket(path_, 0600);
        require(listener.has_value(), "the fake manager listens");
        listener_ = std::move(*listener);
        accepting_ = *loop_.on_readable(listener_.get(), [this] {
            const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
            if (fd >= 0) add_peer(UniqueFd(fd), std::nullopt);
        });
    }
    // As if the process had died: every connection ends.
    void stop() {
        accepting_.reset();
        listener_.reset();
        peers_.clear();
    }

    std::map<Uuid, Stored> store;
    ErrorCode answer_store = ErrorCode::kNone;  // to every StoreState
    bool vanish_after_store = false;            // stores, then dies before it answers
    bool vanish_at_load = false;
    bool silent_at_load = false;
    std::chrono::milliseconds store_takes{0};  // the next one
    int loads = 0;                             // that were asked for
    ErrorCode answer_prepare = ErrorCode::kNone;
    ErrorCode answer_open = ErrorCode::kNone;
    ErrorCode answer_load = ErrorCode::kNone;
    std::string algorithms{};           // of a new TPM
    std::vector<std::string> guests{};  // their names, of each that was opened
    int stores = 0;
    int manufactured = 0;  // TPMs 2.0 that were made anew
    ErrorCode answer_power_on = ErrorCode::kNone;
    Bytes power_on{};  // the commands of each power-on
    int power_ons = 0;

    [[nodiscard]] bool in_use(const Uuid &uuid) const {
        for (const Peer &peer : peers_)
            if (peer.uuid == uuid) return true;
        return false;
    }

private:
    struct Peer {
        UniqueFd socket;
        std::optional<Uuid> uuid;  // set: a state channel
        EventSource readable;
    };

    void add_peer(UniqueFd socket, std::optional<Uuid> uuid) {
        peers_.push_back({std::move(socket), uuid, {}});
        const auto peer = std::prev(peers_.end());
        peer->readable = *loop_.on_readable(peer->socket.get(), [this, peer] { serve(peer); });
    }

    void serve(std::list<Peer>::iterator peer) {
        buffer_.resize(kMaxMessage);
        const auto received = receive_message(peer->socket.get(), buffer_);
        if (!received || received->size == 0) {
            peers_.erase(peer);
            return;
        }
        const ByteView message = ByteView(buffer_).first(received->size);
        if (peer->uuid)
            serve_state(*peer, message);
        else
            serve_backend(*peer, message);
    }

    void serve_backend(Peer &peer, ByteView message) {
        if (const auto prepare = decode<PrepareVtpm>(message)) {
            if (prepare->beginning == Beginning::kPowerOn && !in_use(prepare->uuid))
                store[prepare->uuid].volatile_state.clear();
            return reply(peer, VtpmAnswer{prepare->uuid, answer_prepare, TpmVersion::k20, "as the test wants it"});
        }
        const auto open = decode<OpenVtpm>(message);
        require(open.has_value(), "the backend speaks the protocol");
        if (answer_open != ErrorCode::kNone)
            return reply(peer, VtpmAnswer{open->uuid, answer_open, TpmVersion::k20, "as the test wants it"});
        if (in_use(open->uuid))
            return reply(peer, VtpmAnswer{open->uuid, ErrorCode::kInUse, TpmVersion::k20, "in use"});
        auto ends = make_seqpacket_pair();
        if (!ends) return reply(peer, VtpmAnswer{open->uuid, ErrorCode::kShortage, TpmVersion::k20, ends.error().text});
        reply(peer, VtpmAnswer{open->uuid, ErrorCode::kNone, store[open->uuid].version, ""}, {ends->theirs.get()});
        guests.emplace_back(open->guest);
        add_peer(std::move(ends->ours), open->uuid);
    }

    void serve_state(Peer &peer, ByteView message) {
        Stored &vtpm = store[*peer.uuid];
        if (const auto load = decode<LoadState>(message)) {
            ++loads;
            if (silent_at_load) return;
            if (std::exchange(vanish_at_load, false)) return stop();
            if (load->kind == StateKind::kVolatile) {
                const Bytes once = std::exchange(vtpm.volatile_state, {});
                const ErrorCode code = once.empty() ? ErrorCode::kNotFound : ErrorCode::kNone;
                return reply(peer, LoadedState{code, 1, "as the test wants it", once, {}});
            }
            const ErrorCode code =
                vtpm.sequence == 0 && answer_load == ErrorCode::kNone ? ErrorCode::kNotFound : answer_load;
            return reply(peer, LoadedState{code, vtpm.sequence, "as the test wants it", vtpm.state, algorithms});
        }
        if (decode<ManufactureStep>(message)) {
            ++manufactured;
            return reply(peer, ManufactureCommand{});  // no keys are made
        }
        if (decode<AskAttestation>(message))
            return reply(peer, GiveAttestation{ErrorCode::kRefused, "none is to be had", {}});
        if (decode<PowerOn>(message)) {
            ++power_ons;
            vtpm.volatile_state.clear();
            return reply(peer, PowerOnCommands{answer_power_on, "as the test wants it", power_on});
        }
        const auto request = decode<StoreState>(message);
        require(request.has_value(), "the engine speaks the protocol");
        if (const auto takes = std::exchange(store_takes, {}); takes.count() > 0) {
            late_ = *loop_.after(
                takes, [this, &peer, copy = Bytes(message.begin(), message.end())] { serve_state(peer, copy); });
            return;
        }
        ++stores;
        if (answer_store != ErrorCode::kNone) return reply(peer, StoredState{answer_store, 0, "as the test wants it"});
        if (request->kind == StateKind::kVolatile) {
            vtpm.volatile_state.assign(request->state.begin(), request->state.end());
            return reply(peer, StoredState{ErrorCode::kNone, 1, ""});
        }
        vtpm.state.assign(request->state.begin(), request->state.end());
        vtpm.volatile_state.clear();
        ++vtpm.sequence;
        if (std::exchange(vanish_after_store, false)) return stop();
        reply(peer, StoredState{ErrorCode::kNone, vtpm.sequence, ""});
    }

    template <typename Message>
    void reply(Peer &peer, const Message &message, std::initializer_list<int> fds = {}) {
        Bytes out(kMaxMessage);
        (void)send_message(peer.socket.get(), encode(message, out), fds);
    }

    EventLoop &loop_;
    std::string path_;
    UniqueFd listener_;
    EventSource accepting_;
    EventSource late_;
    std::list<Peer> peers_;
    Bytes buffer_;
};

}  // namespace vtpm
