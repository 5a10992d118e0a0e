// SPDX-License-Identifier: Apache-2.0
#include "backend/device/engine_process.hpp"

#include <array>

#include "base/log.hpp"
#include "base/seqpacket.hpp"

namespace vtpm {
namespace {

// So much an engine may have said to a former daemon, which did not hear it.
constexpr int kLeftBehind = 64;

Result<> result_of(ErrorCode code, std::string_view text) {
    if (code == ErrorCode::kNone) return {};
    return tl::make_unexpected(Error{code, std::string(text)});
}

}  // namespace

template <typename Message>
void EngineProcess::tell(const Message &message, int answers, std::initializer_list<int> fds) {
    may_say_ += answers;
    if (!control_) return;
    // Nobody waits for it: one that reads nothing, and asks for answer after answer, would stop the daemon, and the
    // next one that takes it over.
    if (!has_room(control_.get())) {
        end("does not read what it is told");
        return control_.reset();
    }
    // If the engine is gone its exit is reported by the zygote.
    const auto told = send(control_.get(), message, fds);
    if (!told && told.error().code != ErrorCode::kUnavailable)
        end("could not be told what to do: " + told.error().text);
}

void EngineProcess::attach_ring(const OpenedRing &ring) {
    if (ring.fds[2])
        tell(ring.order, 1, {ring.fds[0].get(), ring.fds[1].get(), ring.fds[2].get()});
    else
        tell(ring.order, 1, {ring.fds[0].get(), ring.fds[1].get()});
}

void EngineProcess::stop() {
    readable_.reset();
    control_.reset();
    parent_.release(id_);
}

void EngineProcess::suspend(const Incarnation &incarnation) {
    tell(SuspendTpm{incarnation}, 0);
    stop();
}

void EngineProcess::detach_ring() { tell(DetachRing{}, 1); }

void EngineProcess::replace_state_channel(UniqueFd channel) { tell(ReplaceStateChannel{}, 2, {channel.get()}); }

void EngineProcess::kill() { parent_.kill(id_); }

void EngineProcess::receive() {
    std::array<std::uint8_t, kMaxSmallMessage> buffer;
    const auto received = receive_message(control_.get(), buffer);
    if (!received && received.error().code == ErrorCode::kShortage) return;  // it is still there
    if (!received || received->size == 0) return readable_.reset();          // it is ending: engine_exited follows
    const ByteView message = ByteView(buffer).first(received->size);
    if (may_say_-- == 0) return end("sent a message that was not asked for");
    switch (message_type(message)) {
        case EngineReady::kType:
            if (const auto ready = decode<EngineReady>(message))
                return observer_->engine_ready(result_of(ready->code, ready->text));
            break;
        case EngineStatus::kType:
            if (const auto status = decode<EngineStatus>(message)) return observer_->engine_status(*status);
            break;
        case RingAttached::kType:
            if (const auto attached = decode<RingAttached>(message))
                return observer_->ring_attached(result_of(attached->code, attached->text));
            break;
        case RingDetached::kType:
            return observer_->ring_detached();
        case StateChannelStatus::kType:
            if (const auto status = decode<StateChannelStatus>(message))
                return observer_->state_channel_changed(result_of(status->code, status->text));
            break;
        default:
            break;
    }
    end("sent a malformed message");
}

// An engine is not trusted: one that does not speak the protocol has been taken over, or is broken.
void EngineProcess::end(std::string_view why) {
    log::error("engine {} {} and is ended", id_, why);
    is_at_fault_ = true;
    readable_.reset();
    kill();
}

void EngineProcess::started(std::uint32_t pid, std::uint32_t meter) {
    pid_ = pid;
    meter_ = meter;
}

void EngineProcess::take_over(std::uint32_t pid, std::uint32_t meter) {
    started(pid, meter);
    may_say_ += kLeftBehind;
    tell(AskStatus{}, 1);
}

// Its last words first, which the zygote's report may have overtaken.
void EngineProcess::exited(const std::string &how, ExitKind end) {
    while (readable_ && wait_readable(control_.get(), std::chrono::milliseconds(0))) receive();
    observer_->engine_exited(how, is_at_fault_ ? ExitKind::kFault : end);
}

Result<> EngineProcess::listen(EventLoop &loop) {
    VTPM_ASSIGN(readable_, loop.on_readable(control_.get(), [this] { receive(); }));
    return {};
}

}  // namespace vtpm
