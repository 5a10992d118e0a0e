// SPDX-License-Identifier: Apache-2.0
// The loop of one engine process: a guest's page on one side, its TPM on the other, and the daemon's few orders.
#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "backend/engine/event_channel.hpp"
#include "backend/engine/shared_page.hpp"
#include "backend/engine/tpm.hpp"
#include "base/seqpacket.hpp"
#include "base/unique_fd.hpp"
#include "shared-protocol/messages.hpp"
#include "shared-protocol/meter.hpp"

namespace vtpm {

class Engine {
public:
    // `control` is this engine's end of the socket to the daemon. `meter` outlives it.
    Engine(UniqueFd control, std::unique_ptr<Tpm> tpm, Meter &meter)
        : control_(std::move(control)), tpm_(std::move(tpm)), meter_(meter) {}

    // Serves until the daemon closes the control socket, then powers the TPM off; or until it wants it suspended.
    Result<> run();

private:
    struct Ring {
        SharedPage page;
        std::unique_ptr<EventChannel> events;
        std::uint32_t ring_ref;
        std::uint32_t event_channel;
        unsigned idle_rings = 0;  // without a command, since the last one
        // There were too many of them: what the guest rings until then is heard then, and once.
        std::optional<std::chrono::steady_clock::time_point> silent_until{};
    };

    struct Order {
        Bytes message;  // empty: the daemon closed its end
        Received received;
    };

    std::optional<std::chrono::milliseconds> silence_left();
    Result<> serve();
    Result<Order> receive();
    Result<> obey(Order order);
    Result<> attach(const AttachRing &order, Received &received);
    static Result<Ring> open_ring(const AttachRing &order, Received &received);
    Result<> replace_channel(Received &received, const Tpm::Take &take);
    Result<> await_manager(const Tpm::Take &take);
    [[nodiscard]] EngineStatus status();
    void report_lost_channel();
    template <typename Message>
    void tell(const Message &message);

    UniqueFd control_;
    std::unique_ptr<Tpm> tpm_;
    Meter &meter_;
    std::optional<Ring> ring_;
    std::optional<Order> postponed_;  // came while a command waited
    bool took_order_ = false;         // a command that waited has, of those that run() has seen coming
    bool channel_reported_lost_ = false;
    bool ended_ = false;
    std::optional<Incarnation> suspended_;  // the guest's, when it was
};

}  // namespace vtpm
