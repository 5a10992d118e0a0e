// SPDX-License-Identifier: Apache-2.0
#include "backend/xen/domains_server.hpp"

#include <sys/socket.h>

#include <array>

#include "base/log.hpp"
#include "base/seqpacket.hpp"

namespace vtpm {
namespace {

// One xen-vtpmd, and those before it whose end was not yet noticed.
constexpr std::size_t kMostClients = 16;

std::uint32_t flags_of(const DomainFacts &facts) {
    return (facts.suspended ? kDomainSuspended : 0U) | (facts.has_run ? kDomainHasRun : 0U) |
           (facts.paused ? kDomainPaused : 0U);
}

}  // namespace

Result<> DomainsServer::start() {
    VTPM_ASSIGN(connecting_, loop_.on_readable(listening_.get(), [this] { accept(); }));
    return {};
}

void DomainsServer::accept() {
    UniqueFd socket(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) return;
    if (clients_.size() >= kMostClients) return log::warning("too many programs ask for domains");
    const auto client = clients_.insert(clients_.end(), Client{std::move(socket)});
    auto readable = loop_.on_readable(client->socket.get(), [this, client] { serve(client); });
    if (!readable) return void(clients_.erase(client));
    client->readable = std::move(*readable);
}

void DomainsServer::serve(Clients::iterator client) {
    if (!answer(client->socket.get())) clients_.erase(client);
}

bool DomainsServer::answer(int socket) {
    std::array<std::uint8_t, kMaxSmallMessage> buffer;
    const auto received = receive_message(socket, buffer);
    if (!received || received->size == 0) return false;
    const ByteView message = ByteView(buffer).first(received->size);
    if (message_type(message) == AskDomain::kType && requested_protocol(message) != protocol_version(Channel::kDomains))
        return send(socket, DomainAnswer{.code = ErrorCode::kUnavailable,
                                         .text = "xen-vtpm-domains and xen-vtpmd are of different versions: "
                                                 "systemctl restart xen-vtpmd"})
            .has_value();
    const auto question = decode<AskDomain>(message);
    if (!question) return false;
    const auto facts = domains_.ask(question->domain);
    const DomainAnswer told =
        facts ? DomainAnswer{.domain = question->domain, .flags = flags_of(*facts), .incarnation = facts->incarnation}
              : DomainAnswer{.domain = question->domain, .code = facts.error().code, .text = facts.error().text};
    return send(socket, told).has_value();
}

}  // namespace vtpm
