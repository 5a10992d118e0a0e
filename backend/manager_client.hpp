// SPDX-License-Identifier: Apache-2.0
// The daemon's connection to xen-vtpm-managerd. Survives the manager's restarts.
#pragma once

#include <deque>
#include <functional>
#include <string>

#include "base/event_loop.hpp"
#include "base/unique_fd.hpp"
#include "base/uuid.hpp"
#include "shared-protocol/messages.hpp"

namespace vtpm {

struct ManagedVtpm {
    TpmVersion version = TpmVersion::k20;
    UniqueFd state_channel;  // empty in the answer to prepare()
};

class ManagerClient {
public:
    using Answer = std::function<void(Result<ManagedVtpm>)>;

    // `connected` runs after each connection: state channels of before it must be opened anew.
    ManagerClient(EventLoop &loop, std::string socket_path, std::function<void()> connected)
        : loop_(loop), socket_path_(std::move(socket_path)), connected_(std::move(connected)) {}

    // The answer comes from the loop, never from within the call; kUnavailable while the manager is away.
    // `launch`: as in OpenVtpm.
    void prepare(const Uuid &uuid, Beginning beginning, ByteView launch, Answer answer);
    // `state_protocol`: of the engine that is to use the channel (Channel::kState). `guest`: as in OpenVtpm.
    void open(const Uuid &uuid, std::uint32_t state_protocol, ByteView launch, std::string_view guest, Answer answer);

    // Keeps trying to connect, so that `connected` is called soon after the manager is back.
    void stay_connected();
    [[nodiscard]] bool connected() const { return static_cast<bool>(socket_); }

private:
    template <typename Request>
    void ask(const Request &request, Answer answer);
    [[nodiscard]] bool may_send() const;
    void send_unsent();
    bool connect();
    void disconnect(const std::string &why);
    void receive();
    void restart_deadline();
    void retry_later();

    EventLoop &loop_;
    std::string socket_path_;
    std::function<void()> connected_;
    UniqueFd socket_;
    EventSource readable_;
    EventSource retry_;
    EventSource deadline_;
    EventSource failures_;
    struct Question {
        Bytes message;
        Answer answer;
    };
    struct Sent {
        std::size_t size = 0;  // bytes
        Answer answer;
    };
    std::deque<Question> unsent_;
    std::deque<Sent> waiting_;  // answers come in the order of the requests
    std::size_t waiting_bytes_ = 0;
    std::deque<Answer> failing_;
    std::string last_error_ = "it closed the connection";
};

}  // namespace vtpm
