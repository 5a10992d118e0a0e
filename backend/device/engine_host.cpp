// SPDX-License-Identifier: Apache-2.0
#include "backend/device/engine_host.hpp"

#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <vector>

#include "base/log.hpp"
#include "base/seqpacket.hpp"

namespace vtpm {
namespace {

// Each running engine has a user of its own, from a range that neither people nor containers use (systemd, "Users,
// Groups, UIDs and GIDs": 1879048192..2147483647).
constexpr std::uint32_t kFirstEngineUid = 1'900'000'000;

std::string describe_exit(int status) {
    if (WIFSIGNALED(status)) {
        const int signal = WTERMSIG(status);
        const char *why = signal == SIGSYS ? ": a forbidden system call" : "";
        return fmt::format("the engine was ended by signal {} ({}){}", signal, ::sigdescr_np(signal), why);
    }
    return fmt::format("the engine exited with status {}", WEXITSTATUS(status));
}

// posix_spawn: nothing of this process' threads and descriptors gets in the way.
Result<> spawn_zygote(const std::string &program, int control) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_adddup2(&actions, control, 3);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    std::string name = "xen-vtpm-engine";
    char *arguments[] = {name.data(), nullptr};
    // Every symbol is looked up once, in the zygote: not in each engine, on pages of its own.
    std::string bind_now = "LD_BIND_NOW=1";
    char *environment[] = {bind_now.data(), nullptr};
    pid_t pid = 0;
    const int error = ::posix_spawn(&pid, program.c_str(), &actions, &attributes, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    errno = error;
    return error == 0 ? Result<>{} : fail_errno("start {}", program);
}

Result<> result_of(ErrorCode code, std::string_view text) {
    if (code == ErrorCode::kNone) return {};
    return tl::make_unexpected(Error{code, std::string(text)});
}

}  // namespace

// ---- EngineProcess ----

EngineProcess::~EngineProcess() {
    const auto entry = host_.running_.find(id_);
    if (entry != host_.running_.end()) entry->second.process = nullptr;
}

template <typename Message>
void EngineProcess::tell(const Message &message, std::initializer_list<int> fds) {
    // If the engine is gone its exit is reported by the zygote.
    if (control_) (void)send(control_.get(), message, fds);
}

void EngineProcess::attach_ring(const OpenedRing &ring) {
    if (ring.fds[2])
        tell(ring.order, {ring.fds[0].get(), ring.fds[1].get(), ring.fds[2].get()});
    else
        tell(ring.order, {ring.fds[0].get(), ring.fds[1].get()});
}

void EngineProcess::detach_ring() { tell(DetachRing{}); }

void EngineProcess::replace_state_channel(UniqueFd channel) { tell(ReplaceStateChannel{}, {channel.get()}); }

void EngineProcess::kill() { (void)send(host_.control_.get(), KillEngine{id_}); }

void EngineProcess::receive() {
    std::array<std::uint8_t, kMaxSmallMessage> buffer;
    const auto received = receive_message(control_.get(), buffer);
    if (!received || received->size == 0) return stop();  // it is ending: engine_exited follows
    const ByteView message = ByteView(buffer).first(received->size);
    switch (message_type(message)) {
        case EngineReady::kType:
            if (const auto ready = decode<EngineReady>(message))
                return observer_->engine_ready(result_of(ready->code, ready->text));
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
    // An engine is not trusted: one that does not speak the protocol has been taken over, or is broken.
    log::error("engine {} sent a malformed message and is ended", id_);
    kill();
}

// ---- EngineHost ----

Result<std::unique_ptr<EngineHost>> EngineHost::start(EventLoop &loop, const std::string &program,
                                                      std::function<void()> lost) {
    VTPM_ASSIGN(SocketPair ends, make_seqpacket_pair());
    VTPM_TRY(spawn_zygote(program, ends.theirs.get()));
    std::unique_ptr<EngineHost> host(new EngineHost(loop, std::move(ends.ours), std::move(lost)));
    VTPM_ASSIGN(host->readable_, loop.on_readable(host->control_.get(), [raw = host.get()] { raw->receive(); }));
    return host;
}

Result<std::unique_ptr<EngineProcess>> EngineHost::start_engine(const Uuid &uuid, TpmVersion version,
                                                                UniqueFd state_channel, EngineObserver &observer) {
    VTPM_ASSIGN(SocketPair ends, make_seqpacket_pair());
    const std::uint32_t slot = free_slot();
    std::unique_ptr<EngineProcess> engine(new EngineProcess(*this, next_id_++, std::move(ends.ours), observer));
    VTPM_ASSIGN(engine->readable_, loop_.on_readable(engine->control_.get(), [raw = engine.get()] { raw->receive(); }));
    const StartEngine order{engine->id_, kFirstEngineUid + slot, version, uuid};
    VTPM_TRY(send(control_.get(), order, {ends.theirs.get(), state_channel.get()}));
    running_.emplace(engine->id_, Running{slot, engine.get()});
    return engine;
}

std::uint32_t EngineHost::free_slot() const {
    std::vector<bool> taken(running_.size() + 1);  // so one of them is free
    for (const auto &[id, running] : running_)
        if (running.slot < taken.size()) taken[running.slot] = true;
    return static_cast<std::uint32_t>(std::ranges::find(taken, false) - taken.begin());
}

void EngineHost::receive() {
    std::array<std::uint8_t, kMaxSmallMessage> buffer;
    const auto received = receive_message(control_.get(), buffer);
    const ByteView message = ByteView(buffer).first(received ? received->size : 0);
    if (const auto report = decode<EngineStarted>(message)) return started(*report);
    if (const auto report = decode<EngineExited>(message)) return exited(*report);
    readable_.reset();
    lost_();
}

void EngineHost::started(const EngineStarted &report) {
    const auto entry = running_.find(report.engine);
    if (entry != running_.end() && entry->second.process != nullptr) entry->second.process->pid_ = report.pid;
}

void EngineHost::exited(const EngineExited &report) {
    const auto entry = running_.find(report.engine);
    if (entry == running_.end()) return;
    EngineProcess *process = entry->second.process;
    running_.erase(entry);
    const int status = static_cast<int>(report.wait_status);
    if (process != nullptr)
        process->observer_->engine_exited(describe_exit(status), WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace vtpm
