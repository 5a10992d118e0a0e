// SPDX-License-Identifier: Apache-2.0
#include "backend/manager_client.hpp"

#include <array>

#include "base/log.hpp"
#include "base/seqpacket.hpp"
#include "shared-protocol/time_limits.hpp"

namespace vtpm {
namespace {

constexpr std::chrono::milliseconds kReconnectAfter{250};
// The manager does not wait for who does not read: it closes a connection whose buffer its answers have filled. That
// takes some hundreds, which a host's start or a manager's restart has.
constexpr std::size_t kMaxWaiting = 64;
// Of requests: with one more, that has a log, they are in the socket's buffer, and nobody waits for room in that.
constexpr std::size_t kMaxWaitingBytes = 2 * kMaxLaunchLog;

}  // namespace

void ManagerClient::prepare(const Uuid &uuid, Beginning beginning, ByteView launch, Answer answer) {
    ask(PrepareVtpm{.uuid = uuid, .beginning = beginning, .launch = launch}, std::move(answer));
}

void ManagerClient::open(const Uuid &uuid, std::uint32_t state_protocol, ByteView launch, std::string_view guest,
                         Answer answer) {
    ask(OpenVtpm{.state_protocol = state_protocol, .uuid = uuid, .launch = launch, .guest = guest}, std::move(answer));
}

template <typename Request>
void ManagerClient::ask(const Request &request, Answer answer) {
    std::array<std::uint8_t, kMaxRequest> buffer;
    const ByteView message = encode(request, buffer);
    unsent_.push_back({Bytes(message.begin(), message.end()), std::move(answer)});
    send_unsent();
}

bool ManagerClient::may_send() const {
    return !unsent_.empty() && waiting_.size() < kMaxWaiting && waiting_bytes_ < kMaxWaitingBytes;
}

void ManagerClient::send_unsent() {
    if (!socket_ && !connect()) return disconnect(last_error_);
    for (; may_send(); unsent_.pop_front()) {
        const std::size_t size = unsent_.front().message.size();
        if (!send_message(socket_.get(), unsent_.front().message)) return disconnect(last_error_);
        waiting_.push_back({size, std::move(unsent_.front().answer)});
        waiting_bytes_ += size;
        if (waiting_.size() == 1) restart_deadline();
    }
}

bool ManagerClient::connect() {
    auto socket = connect_seqpacket(socket_path_, limits::kManagerConnects);
    if (!socket) {
        last_error_ = socket.error().text;
        return false;
    }
    auto readable = loop_.on_readable(socket->get(), [this] { receive(); });
    if (!readable) return false;
    socket_ = std::move(*socket);
    readable_ = std::move(*readable);
    retry_.reset();
    log::info("connected to xen-vtpm-managerd");
    connected_();
    return true;
}

// Everyone who waits is told, from the loop; whoever still needs an answer asks again.
void ManagerClient::disconnect(const std::string &why) {
    if (socket_) log::warning("lost xen-vtpm-managerd: {}", why);
    readable_.reset();
    deadline_.reset();
    socket_.reset();
    for (Sent &sent : std::exchange(waiting_, {})) failing_.push_back(std::move(sent.answer));
    waiting_bytes_ = 0;
    for (Question &question : std::exchange(unsent_, {})) failing_.push_back(std::move(question.answer));
    if (auto source = loop_.when_idle([this, why] {
            for (const Answer &answer : std::exchange(failing_, {}))
                answer(fail(ErrorCode::kUnavailable,
                            "xen-vtpm-managerd is away ({}); see: systemctl status xen-vtpm-managerd", why));
        }))
        failures_ = std::move(*source);
    retry_later();
}

void ManagerClient::retry_later() {
    if (auto timer = loop_.after(kReconnectAfter, [this] { stay_connected(); })) retry_ = std::move(*timer);
}

void ManagerClient::stay_connected() {
    if (!socket_ && !connect()) retry_later();
}

// For the answer that is waited for first, if there is one.
void ManagerClient::restart_deadline() {
    deadline_.reset();
    if (waiting_.empty()) return;
    if (auto timer = loop_.after(limits::kManagerAnswer, [this] { disconnect("it does not answer"); }))
        deadline_ = std::move(*timer);
}

void ManagerClient::receive() {
    std::array<std::uint8_t, kMaxSmallMessage> buffer;
    auto received = receive_message(socket_.get(), buffer);
    if (!received || received->size == 0) return disconnect("it closed the connection");
    const auto message = decode<VtpmAnswer>(ByteView(buffer).first(received->size));
    if (!message || waiting_.empty()) return disconnect("it sent what was not asked for");

    const Answer answer = std::move(waiting_.front().answer);
    waiting_bytes_ -= waiting_.front().size;
    waiting_.pop_front();
    restart_deadline();
    if (!unsent_.empty()) send_unsent();
    if (message->code != ErrorCode::kNone)
        answer(tl::make_unexpected(Error{message->code, std::string(message->text)}));
    else
        answer(ManagedVtpm{message->version, std::move(received->fds[0])});
}

}  // namespace vtpm
