// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/state_channel.hpp"

#include <poll.h>

#include <chrono>

#include "backend/engine/tpm_messages.hpp"
#include "base/seqpacket.hpp"
#include "shared-protocol/event_log_command.hpp"
#include "shared-protocol/time_limits.hpp"
#include "shared-protocol/tpm_message.hpp"

namespace vtpm {
namespace {

Error error_of(ErrorCode code, std::string_view text) { return Error{code, std::string(text)}; }

}  // namespace

ManagerChannel::ManagerChannel(UniqueFd socket)
    : socket_(std::move(socket)), buffer_(std::make_unique_for_overwrite<std::uint8_t[]>(kMaxMessage)) {}

ManagerChannel::~ManagerChannel() = default;

// An answer that is late, malformed or absent ends the channel: a later answer must not be taken for another request's.
template <typename Answer, typename Request>
Result<Answer> ManagerChannel::ask(const Request &request, std::chrono::milliseconds limit) {
    if (!socket_) return fail(ErrorCode::kUnavailable, "the manager is away");
    const MutableBytes buffer(buffer_.get(), kMaxMessage);
    const ByteView message = encode(request, buffer);
    if (message.empty()) return fail(ErrorCode::kInvalid, "the state is larger than the protocol allows");

    Result<> io = send_message(socket_.get(), message);
    wipe(buffer.first(message.size()));
    if (io) io = wait_readable(socket_.get(), limit);
    Result<Answer> answer = fail(ErrorCode::kUnavailable, "the manager closed the state channel");
    if (!io) {
        answer = fail(ErrorCode::kUnavailable, "the manager does not answer: {}", io.error().text);
    } else if (const auto received = receive_message(socket_.get(), buffer); received && received->size > 0) {
        answer = decode<Answer>(buffer.first(received->size));
    }
    if (!answer) {
        socket_.reset();
        answer.error().code = ErrorCode::kUnavailable;
    }
    return answer;
}

void ManagerChannel::look() {
    pollfd entry{socket_.get(), 0, 0};
    if (socket_ && ::poll(&entry, 1, 0) > 0) socket_.reset();
}

Result<ManagerChannel::Loaded> ManagerChannel::load(StateKind kind) {
    auto answer = ask<LoadedState>(LoadState{kind}, limits::kStateAnswer);
    if (!answer) return tl::make_unexpected(std::move(answer).error());
    if (answer->code == ErrorCode::kNotFound)
        return Loaded{.is_new = true, .state = {}, .algorithms = std::string(answer->algorithms)};
    if (answer->code != ErrorCode::kNone) return tl::make_unexpected(error_of(answer->code, answer->text));
    Loaded loaded{.sequence = answer->sequence, .state = SecretBytes(answer->state)};
    wipe({buffer_.get(), kMaxSmallMessage + answer->state.size()});
    return loaded;
}

Result<Bytes> ManagerChannel::manufacture(ByteView response) {
    const auto answer = ask<ManufactureCommand>(ManufactureStep{response}, limits::kHardwareTpm);
    if (!answer) return tl::make_unexpected(answer.error());
    if (answer->code != ErrorCode::kNone) return tl::make_unexpected(error_of(answer->code, answer->text));
    return Bytes(answer->command.begin(), answer->command.end());
}

Result<Bytes> ManagerChannel::attest(ByteView nonce) {
    const auto answer = ask<GiveAttestation>(AskAttestation{nonce}, limits::kStateAnswer);
    if (!answer) return tl::make_unexpected(answer.error());
    if (answer->code != ErrorCode::kNone) return tl::make_unexpected(error_of(answer->code, answer->text));
    return Bytes(answer->attestation.begin(), answer->attestation.end());
}

Result<ManagerChannel::PowerOnOrder> ManagerChannel::power_on() {
    const auto answer = ask<PowerOnCommands>(PowerOn{}, limits::kHardwareTpm);
    if (!answer) return tl::make_unexpected(answer.error());
    if (answer->code != ErrorCode::kNone) return tl::make_unexpected(error_of(answer->code, answer->text));
    PowerOnOrder order;
    order.reissue_first = answer->text == PowerOnCommands::kReissueFirst;
    VTPM_ASSIGN(order.commands, split_commands(answer->commands));
    if (!order.commands.empty() && tpm_code(order.commands.front()) == kGiveEventLog) {
        const Bytes &given = order.commands.front();
        order.event_log.assign(given.begin() + TPM_MESSAGE_HEADER_SIZE, given.end());
        order.commands.erase(order.commands.begin());
    }
    return order;
}

Result<std::uint64_t> ManagerChannel::store(StateKind kind, ByteView state) {
    const auto answer = ask<StoredState>(StoreState{kind, state}, limits::kStateAnswer);
    if (!answer) return tl::make_unexpected(answer.error());
    if (answer->code != ErrorCode::kNone) return tl::make_unexpected(error_of(answer->code, answer->text));
    return answer->sequence;
}

}  // namespace vtpm
