// SPDX-License-Identifier: Apache-2.0
#include "backend/xen/domains_client.hpp"

#include <array>

#include "base/seqpacket.hpp"

namespace vtpm {
namespace {

using Clock = std::chrono::steady_clock;

Result<DomainFacts> facts_in(const DomainAnswer &answer) {
    if (answer.code != ErrorCode::kNone) return fail(answer.code, "{}", answer.text);
    return DomainFacts{.suspended = (answer.flags & kDomainSuspended) != 0,
                       .has_run = (answer.flags & kDomainHasRun) != 0,
                       .paused = (answer.flags & kDomainPaused) != 0,
                       .incarnation = answer.incarnation};
}

}  // namespace

Result<DomainFacts> DomainsClient::ask(std::uint32_t domain) {
    if (Clock::now() < not_before_) return fail(ErrorCode::kUnavailable, "xen-vtpm-domains does not answer");
    // The end of a former connection is seen only when it is used.
    const bool may_have_ended = static_cast<bool>(socket_);
    const auto began = Clock::now();
    auto facts = exchange(domain);
    const auto has_hung = [&] { return Clock::now() - began >= limit_ / 2; };
    if (!socket_ && may_have_ended && !has_hung()) facts = exchange(domain);
    if (socket_) return facts;
    if (has_hung()) not_before_ = Clock::now() + limit_;
    return fail(ErrorCode::kUnavailable, "xen-vtpm-domains: {}; see: systemctl status xen-vtpm-domains",
                facts.error().text);
}

// An answer that comes too late must not be taken for the next one: without an answer the connection ends.
Result<DomainFacts> DomainsClient::exchange(std::uint32_t domain) {
    UniqueFd socket = std::move(socket_);
    if (!socket) {
        VTPM_ASSIGN(socket, connect_seqpacket(path_, limit_));
    }
    VTPM_TRY(send(socket.get(), AskDomain{.domain = domain}));
    VTPM_TRY(wait_readable(socket.get(), limit_));
    std::array<std::uint8_t, kMaxSmallMessage> buffer;
    VTPM_ASSIGN(const Received received, receive_message(socket.get(), buffer));
    if (received.size == 0) return fail(ErrorCode::kUnavailable, "it has ended");
    VTPM_ASSIGN(const DomainAnswer answer, decode<DomainAnswer>(ByteView(buffer).first(received.size)));
    // Of another version, it says so without having understood the question.
    const bool is_about_version = answer.domain == 0 && answer.code == ErrorCode::kUnavailable;
    if (answer.domain != domain && !is_about_version) return fail(ErrorCode::kSystem, "an answer about another domain");
    socket_ = std::move(socket);
    return facts_in(answer);
}

}  // namespace vtpm
