// SPDX-License-Identifier: Apache-2.0
// The way of a guest's tools to its TPM.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <thread>

#include "machine.hpp"

namespace vtpm {

// The guest's driver: what comes by the socket goes to the TPM, one command at a time.
class TpmSocket {
public:
    TpmSocket(std::string path, LoopbackGuest &guest)
        : guest_(guest), listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        std::filesystem::remove(path);
        // The sockets API wants the generic type.
        REQUIRE(::bind(listener_.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0);
        REQUIRE(::listen(listener_.get(), 1) == 0);
        thread_ = std::jthread([this](const std::stop_token &stop) { serve(stop); });
    }

private:
    void serve(const std::stop_token &stop) {
        UniqueFd peer;
        while (!stop.stop_requested()) {
            pollfd waiting{peer ? peer.get() : listener_.get(), POLLIN, 0};
            if (::poll(&waiting, 1, 20) <= 0) continue;
            if (!peer) {
                peer = UniqueFd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
                continue;
            }
            Bytes command(TPMIF_MAX_MESSAGE);
            const ssize_t size = ::read(peer.get(), command.data(), command.size());
            if (size <= 0) {
                peer.reset();
                continue;
            }
            command.resize(static_cast<std::size_t>(size));
            const Bytes response = guest_.execute(command);
            if (::write(peer.get(), response.data(), response.size()) != static_cast<ssize_t>(response.size()))
                peer.reset();
        }
    }

    LoopbackGuest &guest_;
    UniqueFd listener_;
    std::jthread thread_;  // the last: it ends before what it uses
};

}  // namespace vtpm
