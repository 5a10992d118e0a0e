// SPDX-License-Identifier: Apache-2.0
// Messages with descriptors over AF_UNIX SOCK_SEQPACKET: one send is one message, or none of it.
#pragma once

#include <array>
#include <chrono>
#include <initializer_list>
#include <optional>
#include <string>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace vtpm {

constexpr std::size_t kMaxDescriptors = 4;

struct SocketPair {
    UniqueFd ours;
    UniqueFd theirs;
};

struct Received {
    std::size_t size = 0;                       // 0: the peer closed its end
    std::array<UniqueFd, kMaxDescriptors> fds;  // filled from the front
    bool lost_descriptors = false;              // this process could not take them all, and has none of them
};

// Both ends close-on-exec, with a send buffer that takes the largest message of the protocol.
Result<SocketPair> make_seqpacket_pair();

// Listening and connecting by path. A stale socket file of a former process is replaced.
Result<UniqueFd> listen_seqpacket(const std::string &path, unsigned mode);
// With a limit, neither connecting nor a later send waits for longer: somebody may listen and not accept.
Result<UniqueFd> connect_seqpacket(const std::string &path,
                                   std::optional<std::chrono::milliseconds> limit = std::nullopt);

// kUnavailable if the peer is gone (no SIGPIPE). A full buffer blocks, unless the socket is non-blocking: kUnavailable.
// Memory or descriptors that are short are waited for, for half a second; then kShortage.
Result<> send_message(int socket, ByteView message, std::initializer_list<int> fds = {});

// A message longer than `buffer` or with more than kMaxDescriptors descriptors is kInvalid and is dropped whole.
// On a non-blocking socket without a message: kUnavailable with `would_block` text.
// The same if this process cannot take the descriptors: it has as many as it may have, or a security module denies one.
Result<Received> receive_message(int socket, MutableBytes buffer);

// The same, but a message is received without its descriptors if they cannot be taken: for who has to answer it.
Result<Received> receive_order(int socket, MutableBytes buffer);

// Whether the next message would be taken at once. False long before the buffer is full: the peer has not read dozens.
bool has_room(int socket);

// Waits until a message or the end of the stream can be received. kUnavailable when `limit` passes.
Result<> wait_readable(int socket, std::chrono::milliseconds limit);

}  // namespace vtpm
