// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/backend_server.hpp"

#include <sys/socket.h>

#include "base/log.hpp"
#include "manager/vtpm/non_blocking.hpp"

namespace vtpm {
namespace {

constexpr std::size_t kMaxConnections = 8;  // there is one backend, and its former self during a restart

// Root (the backend) or ourselves (tests, tools). The mode of the socket lets our group in as well: a backend that is
// root without CAP_DAC_OVERRIDE comes in by that.
Result<> require_permitted(int socket) {
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return fail_errno("SO_PEERCRED");
    if (peer.uid == 0 || peer.uid == ::geteuid()) return {};
    return fail(ErrorCode::kRefused, "user {} (process {}) may not use it", peer.uid, peer.pid);
}

// A backend and a manager that are upgraded one after the other meet for a moment: who is refused by kUnavailable
// waits.
VtpmAnswer of_other_version() {
    return {Uuid{}, ErrorCode::kUnavailable, TpmVersion::k20,
            "xen-vtpmd and xen-vtpm-managerd are of different versions; upgrade both, and restart both"};
}

VtpmAnswer refusal(const Uuid &uuid, const Error &error) {
    log::error("vTPM {} refused: {}", uuid.to_string(), error.text);
    return {uuid, error.code, TpmVersion::k20, error.text};
}

}  // namespace

Result<> BackendServer::listen(const std::string &path) {
    VTPM_ASSIGN(listener_, listen_seqpacket(path, 0660));
    VTPM_TRY(make_non_blocking(listener_.get()));
    return resume();
}

void BackendServer::accept() {
    UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket && (errno == EMFILE || errno == ENFILE)) return pause();
    if (!socket) return;  // the peer is gone again
    if (const auto added = add(std::move(socket)); !added)
        log::warning("a connection was turned away: {}", added.error().text);
}

// Out of descriptors: the connection stays in the queue, and would wake the loop at once again.
void BackendServer::pause() {
    log::error("no descriptor left for a connection of the backend: LimitNOFILE is too low");
    auto later = loop_.after(std::chrono::seconds(1), [this] { (void)resume(); });
    if (later) acceptable_ = std::move(*later);
}

Result<> BackendServer::resume() {
    VTPM_ASSIGN(acceptable_, loop_.on_readable(listener_.get(), [this] { accept(); }));
    return {};
}

Result<> BackendServer::add(UniqueFd socket) {
    const int fd = socket.get();
    VTPM_TRY(require_permitted(fd));
    if (connections_.size() >= kMaxConnections)
        return fail(ErrorCode::kRefused, "there are {} already", kMaxConnections);
    Connection connection{std::move(socket), {}};
    VTPM_ASSIGN(connection.readable, loop_.on_readable(fd, [this, fd] { on_readable(fd); }));
    connections_.emplace(fd, std::move(connection));
    return {};
}

void BackendServer::on_readable(int fd) {
    const Result<> handled = handle(fd);
    if (handled) return;
    if (handled.error().code != ErrorCode::kUnavailable)
        log::warning("connection of the backend closed by us: {}", handled.error().text);
    connections_.erase(fd);
}

Result<> BackendServer::handle(int fd) {
    VTPM_ASSIGN(const Received received, receive_message(fd, buffer_));
    if (received.size == 0) return fail(ErrorCode::kUnavailable, "the backend is gone");
    const ByteView message = ByteView(buffer_).first(received.size);
    const std::uint16_t type = message_type(message);
    if (type != PrepareVtpm::kType && type != OpenVtpm::kType)
        return fail(ErrorCode::kInvalid, "a request of unknown type {}", type);
    if (requested_protocol(message) != protocol_version(Channel::kRequests)) return send(fd, of_other_version());
    return type == PrepareVtpm::kType ? prepare(fd, message) : open(fd, message);
}

Result<> BackendServer::prepare(int fd, ByteView message) {
    VTPM_ASSIGN(const PrepareVtpm request, decode<PrepareVtpm>(message));
    const Uuid &uuid = request.uuid;
    const auto version = vtpms_.prepare(uuid, request.beginning, request.launch);
    if (!version) return send(fd, refusal(uuid, version.error()));
    return send(fd, VtpmAnswer{uuid, ErrorCode::kNone, *version, {}});
}

Result<> BackendServer::open(int fd, ByteView message) {
    VTPM_ASSIGN(const OpenVtpm request, decode<OpenVtpm>(message));
    const Uuid &uuid = request.uuid;
    if (request.state_protocol != protocol_version(Channel::kState))
        return send(fd, refusal(uuid, {ErrorCode::kRefused,
                                       "its engine is of a former version, which this "
                                       "xen-vtpm-managerd does not speak: power cycle the guest"}));
    const auto opened = vtpms_.open(uuid, request.launch, request.guest);
    if (!opened) return send(fd, refusal(uuid, opened.error()));
    return send(fd, VtpmAnswer{uuid, ErrorCode::kNone, opened->version, {}}, {opened->channel.get()});
}

}  // namespace vtpm
