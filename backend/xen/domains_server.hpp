// SPDX-License-Identifier: Apache-2.0
// Answers AskDomain, and nothing else.
#pragma once

#include <list>

#include "backend/xen/domains.hpp"
#include "base/event_loop.hpp"
#include "base/unique_fd.hpp"

namespace vtpm {

class DomainsServer {
public:
    // `listening`: a SOCK_SEQPACKET socket. Who may connect is a matter of its file's mode.
    DomainsServer(EventLoop &loop, Domains &domains, UniqueFd listening)
        : loop_(loop), domains_(domains), listening_(std::move(listening)) {}
    Result<> start();

private:
    struct Client {
        UniqueFd socket;
        EventSource readable = {};
    };
    using Clients = std::list<Client>;

    void accept();
    void serve(Clients::iterator client);
    // False: this client gets no answer.
    [[nodiscard]] bool answer(int socket);

    EventLoop &loop_;
    Domains &domains_;
    UniqueFd listening_;
    EventSource connecting_;
    Clients clients_;
};

}  // namespace vtpm
