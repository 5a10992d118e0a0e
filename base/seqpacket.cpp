// SPDX-License-Identifier: Apache-2.0
#include "base/seqpacket.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>

namespace vtpm {
namespace {

// A message that is lost for want of memory leaves two processes with different beliefs. So it is tried again, for half
// a second: longer than the kernel needs to free some, and no one who waits in the sender's loop gives up for it.
constexpr int kTries = 50;
constexpr int kMoment = 10;  // milliseconds

// sendmsg(2) or recvmsg(2): what it returns, and errno.
template <typename Call>
ssize_t patiently(Call call) {
    ssize_t size = 0;
    for (int left = kTries;; --left) {
        do size = call();
        while (size < 0 && errno == EINTR);
        const int saved = errno;
        // EAGAIN is no shortage here: the other end does not read, or says nothing.
        if (size >= 0 || saved == EAGAIN || code_of_errno(saved) != ErrorCode::kShortage || left == 0) return size;
        (void)::poll(nullptr, 0, kMoment);  // an engine may not sleep otherwise
        errno = saved;
    }
}

// The kernel doubles it: room for kMaxMessageSize of shared-protocol/ and its bookkeeping. Any user may set this much.
constexpr int kSendBufferSize = 212'992;

void enlarge_send_buffer(int socket) {
    // Best effort: on failure a large message fails to be sent, and that is reported there.
    (void)::setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &kSendBufferSize, sizeof kSendBufferSize);
}

Result<UniqueFd> make_socket() {
    UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (!socket) return fail_errno("socket");
    enlarge_send_buffer(socket.get());
    return socket;
}

Result<sockaddr_un> address_of(const std::string &path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) return fail(ErrorCode::kInvalid, "socket path too long: {}", path);
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    return address;
}

// The sockets API wants the generic type; the casts are its documented use.
const sockaddr *generic(const sockaddr_un &address) { return reinterpret_cast<const sockaddr *>(&address); }

void take_descriptors(msghdr &header, Received &received, bool &too_many) {
    std::size_t taken = 0;
    for (cmsghdr *control = CMSG_FIRSTHDR(&header); control != nullptr; control = CMSG_NXTHDR(&header, control)) {
        if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
        const std::size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(control) + i * sizeof fd, sizeof fd);
            UniqueFd owned(fd);
            if (taken < received.fds.size())
                received.fds.at(taken++) = std::move(owned);
            else
                too_many = true;
        }
    }
}

}  // namespace

Result<SocketPair> make_seqpacket_pair() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return fail_errno("socketpair");
    enlarge_send_buffer(ends[0]);
    enlarge_send_buffer(ends[1]);
    return SocketPair{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

Result<UniqueFd> listen_seqpacket(const std::string &path, unsigned mode) {
    auto socket = make_socket();
    if (!socket) return socket;
    const auto address = address_of(path);
    if (!address) return tl::make_unexpected(address.error());
    (void)::unlink(path.c_str());
    const mode_t former = ::umask(0777 & ~mode);
    const int bound = ::bind(socket->get(), generic(*address), sizeof *address);
    (void)::umask(former);
    if (bound != 0) return fail_errno("bind {}", path);
    if (::listen(socket->get(), SOMAXCONN) != 0) return fail_errno("listen {}", path);
    return socket;
}

Result<UniqueFd> connect_seqpacket(const std::string &path, std::optional<std::chrono::milliseconds> limit) {
    auto socket = make_socket();
    if (!socket) return socket;
    if (limit) {
        const timeval time{limit->count() / 1000, limit->count() % 1000 * 1000};
        if (::setsockopt(socket->get(), SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time) != 0)
            return fail_errno("SO_SNDTIMEO");
    }
    const auto address = address_of(path);
    if (!address) return tl::make_unexpected(address.error());
    if (::connect(socket->get(), generic(*address), sizeof *address) != 0) {
        const int saved = errno;
        return fail(ErrorCode::kUnavailable, "connect {}: {}", path, std::strerror(saved));
    }
    return socket;
}

Result<> send_message(int socket, ByteView message, std::initializer_list<int> fds) {
    require(fds.size() <= kMaxDescriptors, "at most kMaxDescriptors descriptors go with a message");
    // sendmsg does not write to the payload; iovec has no const form.
    iovec payload{const_cast<std::uint8_t *>(message.data()), message.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))]{};
    msghdr header{};
    header.msg_iov = &payload;
    header.msg_iovlen = 1;
    if (fds.size() != 0) {
        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
        cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
        std::memcpy(CMSG_DATA(rights), fds.begin(), fds.size() * sizeof(int));
    }
    if (patiently([&] { return ::sendmsg(socket, &header, MSG_NOSIGNAL); }) >= 0) return {};
    const int saved = errno;
    const bool peer = saved == EPIPE || saved == ECONNRESET || saved == ENOTCONN || saved == EAGAIN;
    return fail(peer ? ErrorCode::kUnavailable : code_of_errno(saved), "send: {}", std::strerror(saved));
}

Result<Received> receive_order(int socket, MutableBytes buffer) {
    iovec payload{buffer.data(), buffer.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))]{};
    msghdr header{};
    header.msg_iov = &payload;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    ssize_t size = 0;
    // ECONNRESET: the peer closed its end, and had not read everything. It is told once, before what the peer sent.
    do size = patiently([&] { return ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC); });
    while (size < 0 && errno == ECONNRESET);
    if (size < 0) {
        const int saved = errno;
        return fail(saved == EAGAIN ? ErrorCode::kUnavailable : code_of_errno(saved), "receive: {}",
                    std::strerror(saved));
    }
    Received received;
    received.size = static_cast<std::size_t>(size);
    bool too_many = false;
    take_descriptors(header, received, too_many);
    if (too_many || (header.msg_flags & MSG_TRUNC) != 0)
        return fail(ErrorCode::kInvalid, "a message larger than the protocol allows");
    received.lost_descriptors = (header.msg_flags & MSG_CTRUNC) != 0;
    if (received.lost_descriptors) received.fds = {};
    return received;
}

Result<Received> receive_message(int socket, MutableBytes buffer) {
    auto received = receive_order(socket, buffer);
    if (received && received->lost_descriptors)
        return fail(ErrorCode::kInvalid, "a message with more descriptors than this process may have");
    return received;
}

bool has_room(int socket) {
    pollfd entry{socket, POLLOUT, 0};
    return ::poll(&entry, 1, 0) != 0;  // an end, or an error, is for who sends
}

Result<> wait_readable(int socket, std::chrono::milliseconds limit) {
    using Clock = std::chrono::steady_clock;
    const auto deadline = Clock::now() + limit;
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());  // never too early
        pollfd entry{socket, POLLIN, 0};
        const int ready = ::poll(&entry, 1, static_cast<int>(std::max<long>(left.count(), 0)));
        if (ready > 0) return {};
        if (ready == 0) return fail(ErrorCode::kUnavailable, "no answer within {} ms", limit.count());
        if (errno != EINTR) return fail_errno("poll");
    }
}

}  // namespace vtpm
