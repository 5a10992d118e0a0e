// SPDX-License-Identifier: Apache-2.0
#include "backend/device/engine_host.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <limits>
#include <vector>

#include "base/log.hpp"
#include "base/seqpacket.hpp"
#include "shared-protocol/time_limits.hpp"
#include "version.hpp"

namespace vtpm {
namespace {

// Of renewals of the zygote after a crash: each takes systemd's time, and systemd keeps some 1000 connections.
constexpr std::chrono::minutes kRenewalInterval{1};
constexpr std::size_t kMostZygotes = 512;

// Each running engine has a user of its own, from a range that neither people nor containers use (systemd, "Users,
// Groups, UIDs and GIDs": 1879048192..2147483647).
constexpr std::uint32_t kFirstEngineUid = 1'900'000'000;
// Engines that could not be taken over, and are about to end, have users below this distance.
constexpr std::uint32_t kUidsOfLost = 1'000'000;

// Descriptors of a zygote, or of the daemon: what they have themselves, and while an engine starts; and for each engine
// (its control socket, and its log or a timer).
constexpr rlim_t kOwnDescriptors = 64;
constexpr rlim_t kPerEngine = 2;

// namespaces(7): each engine has one of its own. Other programs may have some, too.
std::size_t pid_namespaces() {
    std::ifstream file("/proc/sys/user/max_pid_namespaces");
    std::size_t most = 0;
    return file >> most ? most : std::numeric_limits<std::size_t>::max();
}

std::optional<EngineGroups> groups_of(pid_t zygote) {
    auto groups = EngineGroups::of(zygote);
    if (groups) return std::move(*groups);
    log::warning("engines have no limits of memory: {}", groups.error().text);
    return {};
}

std::string describe_exit(int status, bool out_of_memory) {
    if (out_of_memory) return "the engine was ended: it needed more memory than its control group has";
    if (WIFSIGNALED(status)) {
        const int signal = WTERMSIG(status);
        const char *why = signal == SIGSYS ? ": a forbidden system call" : "";
        return fmt::format("the engine was ended by signal {} ({}){}", signal, ::sigdescr_np(signal), why);
    }
    if (WEXITSTATUS(status) == kCommandTookTooLong) return "the engine was ended: a command of the guest took too long";
    if (WEXITSTATUS(status) == kCouldNotStart)
        return "the engine could not be started: memory, descriptors or processes are short";
    return fmt::format("the engine exited with status {}", WEXITSTATUS(status));
}

ExitKind kind_of_exit(int status) {
    if (WIFSIGNALED(status)) return WTERMSIG(status) == SIGKILL ? ExitKind::kWant : ExitKind::kFault;
    switch (WEXITSTATUS(status)) {
        case 0:
            return ExitKind::kOrderly;
        case kCouldNotStart:
            return ExitKind::kWant;
        default:
            return ExitKind::kFault;
    }
}

// Not by our own hand, nor the kernel's for want of memory.
bool has_crashed(int status) { return WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL; }

// The zygote's end of its control socket.
constexpr int kControl = 3;

// Without the daemon's loop, which does not run yet.
template <typename Ask>
Result<> wait_for(Ask ask) {
    VTPM_ASSIGN(EventLoop loop, EventLoop::create());
    Result<> answer;
    const auto asked = ask(loop, [&](const Result<> &result) {
        answer = result;
        loop.stop();
    });
    VTPM_TRY(loop.run());
    return answer;
}

// posix_spawn: nothing of this process' threads and descriptors gets in the way.
Result<pid_t> spawn_zygote(int program, int control) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_adddup2(&actions, control, kControl);
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
    const std::string path = fmt::format("/proc/self/fd/{}", program);
    const int error = ::posix_spawn(&pid, path.c_str(), &actions, &attributes, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    errno = error;
    if (error != 0) return fail_errno("start the engine program");
    return pid;
}

}  // namespace

std::string to_string(const KeptName &name) {
    return fmt::format("engines-{:08x}-{:08x}-{}", name.engines_protocol, name.state_protocol, name.zygote);
}

std::optional<KeptName> parse_kept_name(std::string_view text) {
    KeptName name{};
    if (std::sscanf(std::string(text).c_str(), "engines-%8" SCNx32 "-%8" SCNx32 "-%d", &name.engines_protocol,
                    &name.state_protocol, &name.zygote) != 3 ||
        to_string(name) != text)
        return std::nullopt;
    return name;
}

// ---- zygotes ----

EngineHost::EngineHost(EventLoop &loop, UniqueFd program, ServiceManager &service, std::function<void()> lost)
    : loop_(loop),
      program_(std::move(program)),
      service_(service),
      lost_(std::move(lost)),
      first_uid_(kFirstEngineUid),
      may_renew_(1, kRenewalInterval) {}

Result<std::unique_ptr<EngineHost>> EngineHost::start(EventLoop &loop, const std::string &program,
                                                      ServiceManager &service, std::function<void()> lost) {
    const UniqueFd opened(::open(program.c_str(), O_PATH | O_CLOEXEC));
    UniqueFd file(::fcntl(opened.get(), F_DUPFD_CLOEXEC, kControl + 1));
    if (!file) return fail_errno("open {}", program);
    std::unique_ptr<EngineHost> host(new EngineHost(loop, std::move(file), service, std::move(lost)));
    for (KeptDescriptor &kept : service.kept()) host->take_over(std::move(kept));
    VTPM_TRY(host->start_zygote());
    host->drop_idle_zygotes();
    host->started_ = true;
    return host;
}

Result<EngineHost::Coming> EngineHost::spawn() const {
    VTPM_ASSIGN(SocketPair ends, make_seqpacket_pair());
    VTPM_ASSIGN(const pid_t pid, spawn_zygote(program_.get(), ends.theirs.get()));
    const KeptName name{protocol_version(Channel::kEngines), protocol_version(Channel::kState), pid};
    return Coming{name, std::move(ends.ours)};
}

// The daemon's first: nobody is served yet. Whoever fails closes its connection, by which it ends.
Result<> EngineHost::start_zygote() {
    VTPM_ASSIGN(Coming first, spawn());
    const auto moved = wait_for([&](EventLoop &loop, ServiceManager::Done done) {
        return service_.give_scope(loop, first.name.zygote, std::move(done));
    });
    if (!moved) log::warning("a restart of xen-vtpmd will end the TPMs that it starts: {}", moved.error().text);
    (void)wait_for([&](EventLoop &loop, ServiceManager::Done done) {
        return service_.keep(loop, to_string(first.name), first.control.get(), std::move(done));
    });
    return use(std::move(first));
}

Result<> EngineHost::use(Coming zygote) {
    zygotes_.push_back({zygote.name, kVersion, std::move(zygote.control), true});
    zygotes_.back().groups = groups_of(zygote.name.zygote);
    return serve(zygotes_.back());
}

// A guest that has crashed its engine may have learned something of the addresses that all engines of a zygote share,
// or guessed a part of them, and may boot again to guess on: not for long with these (docs/decisions/0011). systemd may
// be busy: those that run are served meanwhile.
void EngineHost::renew_zygote() {
    if (coming_ || zygotes_.size() >= kMostZygotes || !may_renew_.take()) return;
    auto spawned = spawn();
    if (!spawned)
        return log::warning("engines go on with the addresses of one that has crashed: {}", spawned.error().text);
    coming_ = std::move(*spawned);
    coming_->asked =
        service_.give_scope(loop_, coming_->name.zygote, [this](const Result<> &given) { has_scope(given); });
}

void EngineHost::has_scope(const Result<> &given) {
    if (!given) {
        log::warning("engines go on with the addresses of one that has crashed: {}", given.error().text);
        dropped_.push_back(coming_->name.zygote);
        return coming_.reset();
    }
    coming_->asked =
        service_.keep(loop_, to_string(coming_->name), coming_->control.get(), [this](const Result<> &) { renewed(); });
}

void EngineHost::renewed() {
    Coming zygote = std::move(*coming_);
    coming_.reset();
    const KeptName name = zygote.name;
    if (const auto used = use(std::move(zygote)); !used) {
        log::warning("engines go on with the addresses of one that has crashed: {}", used.error().text);
        zygotes_.pop_back();
        service_.forget(to_string(name));
        dropped_.push_back(name.zygote);
    }
    drop_idle_zygotes();
}

// One without engines may not have come up; the one before it serves. Otherwise the daemon ends with its engines.
void EngineHost::ended(Zygote &zygote) {
    zygote.readable.reset();
    const bool is_last = &zygote == &zygotes_.back();
    const bool has_other = zygotes_.size() > 1 && (!is_last || std::next(zygotes_.rbegin())->is_own);
    if (engines_of(zygote) != 0 || !has_other) return lost_();
    log::warning("a parent process of engines has ended before it had any");
    service_.forget(to_string(zygote.name));
    dropped_.push_back(zygote.name.zygote);
    zygotes_.remove_if([&](const Zygote &candidate) { return &candidate == &zygote; });
}

Result<> EngineHost::serve(Zygote &zygote) {
    VTPM_ASSIGN(zygote.readable, loop_.on_readable(zygote.control.get(), [this, &zygote] { receive(zygote); }));
    return {};
}

// If it cannot be done, dropping the connection ends them in order: their guests lose their TPMs until a power cycle.
void EngineHost::take_over(KeptDescriptor kept) {
    const auto taken = try_take_over(kept);
    if (taken) return;
    log::error("the TPMs that a former xen-vtpmd has started ({}) cannot be taken over and are powered off: {}",
               kept.name, taken.error().text);
    first_uid_ += kUidsOfLost;
    service_.forget(kept.name);
}

Result<> EngineHost::try_take_over(KeptDescriptor &kept) {
    const auto name = parse_kept_name(kept.name);
    if (!name || name->engines_protocol != protocol_version(Channel::kEngines))
        return fail(ErrorCode::kInvalid, "they speak another protocol");
    zygotes_.push_back({*name, {}, std::move(kept.fd)});
    Zygote &zygote = zygotes_.back();
    zygote.groups = groups_of(name->zygote);
    Result<> taken = list_engines(zygote);
    if (taken) taken = serve(zygote);
    if (taken) return {};
    std::erase_if(running_, [&](const auto &entry) { return entry.second.zygote == &zygote; });
    zygotes_.pop_back();
    return taken;
}

Result<> EngineHost::list_engines(Zygote &zygote) {
    const auto asker = static_cast<std::uint32_t>(::getpid());
    VTPM_TRY(send(zygote.control.get(), ListEngines{asker}));
    const auto deadline = std::chrono::steady_clock::now() + limits::kZygoteLists;
    while (std::chrono::steady_clock::now() < deadline) {
        VTPM_TRY(wait_readable(zygote.control.get(), limits::kZygoteLists));
        std::array<std::uint8_t, kMaxSmallMessage> buffer;
        VTPM_ASSIGN(Received received, receive_message(zygote.control.get(), buffer));
        if (received.size == 0) return fail(ErrorCode::kUnavailable, "their parent process has ended");
        const ByteView message = ByteView(buffer).first(received.size);
        switch (message_type(message)) {
            case LivingEngine::kType: {
                VTPM_ASSIGN(const LivingEngine engine, decode<LivingEngine>(message));
                living(zygote, engine, std::move(received.fds[0]));
                break;
            }
            case EngineExited::kType: {
                VTPM_ASSIGN(const EngineExited report, decode<EngineExited>(message));
                exited(zygote, report);
                break;
            }
            case EngineStarted::kType:  // it is listed
                break;
            case GiveMeters::kType:
                read_meters(zygote, received.fds[0]);
                break;
            default: {
                VTPM_ASSIGN(const EnginesListed end, decode<EnginesListed>(message));
                if (end.asker != asker) break;  // a former daemon, which was ended before it read the answer
                zygote.version = end.version;
                return {};
            }
        }
    }
    return fail(ErrorCode::kUnavailable, "their parent process does not come to an end");
}

void EngineHost::receive(Zygote &zygote) {
    std::array<std::uint8_t, kMaxSmallMessage> buffer;
    const auto received = receive_message(zygote.control.get(), buffer);
    if (!received && received.error().code == ErrorCode::kShortage) return;  // it is still there
    const ByteView message = ByteView(buffer).first(received ? received->size : 0);
    if (const auto report = decode<EngineStarted>(message)) return started(*report);
    if (received && decode<GiveMeters>(message)) return read_meters(zygote, received->fds[0]);
    if (const auto report = decode<EngineExited>(message)) return exited(zygote, *report);
    ended(zygote);
}

std::size_t EngineHost::engines_of(const Zygote &zygote) const {
    return static_cast<std::size_t>(
        std::ranges::count_if(running_, [&](const auto &entry) { return entry.second.zygote == &zygote; }));
}

std::vector<std::pair<KeptName, std::size_t>> EngineHost::zygotes() const {
    std::vector<std::pair<KeptName, std::size_t>> all;
    for (const Zygote &zygote : zygotes_) all.emplace_back(zygote.name, engines_of(zygote));
    return all;
}

// Those of former daemons, whose last engine has ended.
void EngineHost::drop_idle_zygotes() {
    zygotes_.remove_if([&](const Zygote &zygote) {
        if (engines_of(zygote) != 0 || &zygote == &zygotes_.back()) return false;
        service_.forget(to_string(zygote.name));
        dropped_.push_back(zygote.name.zygote);
        return true;
    });
    reap_zygotes();
}

// A former daemon's is not our child: ECHILD.
void EngineHost::reap_zygotes() {
    std::erase_if(dropped_, [](pid_t zygote) { return ::waitpid(zygote, nullptr, WNOHANG) != 0; });
}

// ---- engines ----

Result<std::unique_ptr<EngineProcess>> EngineHost::start_engine(DeviceId device, const Uuid &uuid, TpmVersion version,
                                                                UniqueFd state_channel, EngineObserver &observer,
                                                                Beginning beginning, const Incarnation &incarnation) {
    // The next engine is not to have the addresses of one that has crashed.
    if (coming_) return fail(ErrorCode::kUnavailable, "the engines' next parent process is about to come");
    VTPM_ASSIGN(SocketPair ends, make_seqpacket_pair());
    Zygote &zygote = zygotes_.back();
    const std::uint32_t uid = free_uid();
    const StartEngine order{next_id_++, uid, version, uuid, device.domain, device.device, beginning, incarnation};
    const int ours = ends.ours.get();
    auto engine = std::make_unique<EngineProcess>(*this, order.engine, zygote.version, zygote.name.state_protocol,
                                                  std::move(ends.ours), observer);
    // Before the zygote has the other ends: what fails afterwards would leave an engine that nobody knows.
    VTPM_TRY(engine->listen(loop_));
    UniqueFd group;
    if (zygote.groups) {
        VTPM_ASSIGN(group, zygote.groups->make(order.engine));
    }
    const auto sent =
        group ? send(zygote.control.get(), order, {ends.theirs.get(), ours, state_channel.get(), group.get()})
              : send(zygote.control.get(), order, {ends.theirs.get(), ours, state_channel.get()});
    if (!sent) {
        if (zygote.groups) (void)zygote.groups->remove(order.engine);
        return tl::make_unexpected(sent.error());
    }
    running_.emplace(order.engine, Running{&zygote, uid, engine.get()});
    return engine;
}

void EngineHost::living(Zygote &zygote, const LivingEngine &engine, UniqueFd control) {
    Running running{&zygote, engine.uid};
    if (control) running.unclaimed = std::make_unique<Unclaimed>(Unclaimed{engine, std::move(control)});
    running_.insert_or_assign(engine.engine, std::move(running));
    next_id_ = std::max(next_id_, engine.engine + 1);
}

std::unique_ptr<EngineProcess> EngineHost::adopt(DeviceId device, const Uuid &uuid, EngineObserver &observer) {
    const auto entry = std::ranges::find_if(running_, [&](const auto &candidate) {
        const auto &left = candidate.second.unclaimed;
        return left && DeviceId{left->engine.domain, left->engine.device} == device && left->engine.uuid == uuid;
    });
    if (entry == running_.end()) return nullptr;
    Running &running = entry->second;
    const auto left = std::move(running.unclaimed);
    const Zygote &zygote = *running.zygote;
    auto engine = std::make_unique<EngineProcess>(*this, entry->first, zygote.version, zygote.name.state_protocol,
                                                  std::move(left->control), observer);
    running.process = engine.get();
    if (const auto listening = engine->listen(loop_); !listening) {
        log::error("engine {}: {}", entry->first, listening.error().text);
        engine->stop();
    }
    engine->take_over(left->engine.pid, left->engine.meter);
    return engine;
}

void EngineHost::stop_unclaimed() {
    for (auto &[id, running] : running_) {
        if (!running.unclaimed) continue;
        log::info("vTPM {} is powered off: its guest has gone", running.unclaimed->engine.uuid.to_string());
        running.unclaimed.reset();
        release(id);
    }
}

void EngineHost::stop_all(std::function<void()> stopped) {
    if (running_.empty()) return stopped();
    stopped_ = std::move(stopped);
    coming_.reset();
    stop_unclaimed();
    for (const auto &entry : running_) release(entry.first);
    if (auto timer = loop_.after(limits::kAllPowerOff, [this] {
            log::warning("{} engines do not stop and are killed", running_.size());
            for (const auto &entry : running_) kill(entry.first);
        }))
        stop_limit_ = std::move(*timer);
}

// Of one that has ended, its zygote may have gone, too, and knows it no more.
template <typename Message>
void EngineHost::order(std::uint32_t engine, const Message &message) {
    const auto entry = running_.find(engine);
    if (entry == running_.end()) return;
    // If the zygote is gone its end is heard of.
    const auto sent = send(entry->second.zygote->control.get(), message);
    if (!sent && sent.error().code != ErrorCode::kUnavailable)
        log::error("the parent process of the engines does not hear what to do: {}", sent.error().text);
}

void EngineHost::forget(std::uint32_t engine) {
    const auto entry = running_.find(engine);
    if (entry != running_.end()) entry->second.process = nullptr;
}

std::optional<MeterReading> EngineHost::meter(std::uint32_t engine, std::uint32_t page) const {
    const auto entry = running_.find(engine);
    if (entry == running_.end() || !entry->second.zygote->meters) return std::nullopt;
    return entry->second.zygote->meters->read(page);
}

// Without them nobody sees what its engines count.
void EngineHost::read_meters(Zygote &zygote, const UniqueFd &file) {
    auto meters = Meters::map(file);
    if (!meters) return log::warning("{}", meters.error().text);
    zygote.meters = std::move(*meters);
}

std::size_t EngineHost::room() const {
    const auto beyond = [](std::size_t most, std::size_t used) { return most - std::min(most, used); };
    rlimit descriptors{};
    (void)::getrlimit(RLIMIT_NOFILE, &descriptors);  // the zygotes have the same
    const std::size_t room = beyond(beyond(descriptors.rlim_cur, kOwnDescriptors) / kPerEngine, running_.size());
    const Zygote &zygote = zygotes_.back();
    const std::size_t tasks = zygote.groups ? zygote.groups->most() : kScopeTasks - 1;
    return std::min({room, beyond(tasks, engines_of(zygote)), beyond(pid_namespaces(), running_.size())});
}

std::uint32_t EngineHost::free_uid() const {
    std::vector<bool> taken(running_.size() + 1);  // so one of them is free
    for (const auto &[id, running] : running_)
        if (running.uid - first_uid_ < taken.size()) taken[running.uid - first_uid_] = true;
    return first_uid_ + static_cast<std::uint32_t>(std::ranges::find(taken, false) - taken.begin());
}

void EngineHost::started(const EngineStarted &report) {
    const auto entry = running_.find(report.engine);
    if (entry != running_.end() && entry->second.process != nullptr)
        entry->second.process->started(report.pid, report.meter);
}

void EngineHost::exited(Zygote &zygote, const EngineExited &report) {
    const bool out_of_memory = zygote.groups && zygote.groups->remove(report.engine);
    const auto entry = running_.find(report.engine);
    if (entry == running_.end()) return;
    const Running running = std::move(entry->second);
    running_.erase(entry);
    const int status = static_cast<int>(report.wait_status);
    if (running.process != nullptr) running.process->exited(describe_exit(status, out_of_memory), kind_of_exit(status));
    if (!started_) return;  // the zygote that tells this is just being taken over
    if (has_crashed(status) && &zygote == &zygotes_.back() && !stopped_) renew_zygote();
    drop_idle_zygotes();
    if (running_.empty() && stopped_) stopped_();
}

}  // namespace vtpm
