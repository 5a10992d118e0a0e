// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/zygote.hpp"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <ctime>
#include <map>
#include <memory_resource>
#include <variant>
#include <vector>

#include "backend/engine/engine_log.hpp"
#include "backend/engine/meter_pages.hpp"
#include "backend/engine/sandbox.hpp"
#include "base/log.hpp"
#include "base/seqpacket.hpp"
#include "shared-protocol/messages.hpp"
#include "version.hpp"

namespace vtpm {
namespace {

// For what an engine has no business with: it is not there in a child. Also, what the zygote writes between two forks
// would otherwise leave the older child with a copy of its own of each page.
class NotForked : public std::pmr::memory_resource {
    void *do_allocate(std::size_t size, std::size_t) override {
        void *memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        require(::madvise(memory, size, MADV_DONTFORK) == 0, "anonymous memory need not be forked");
        return memory;
    }
    void do_deallocate(void *memory, std::size_t size, std::size_t) override { ::munmap(memory, size); }
    [[nodiscard]] bool do_is_equal(const memory_resource &other) const noexcept override { return this == &other; }
};

class Zygote {
public:
    Zygote(UniqueFd control, UniqueFd child_signal, UniqueFd epoll, LonelyFork lonely_fork, MeterPages meters,
           const EngineProgram &program)
        : control_(std::move(control)),
          child_signal_(std::move(child_signal)),
          epoll_(std::move(epoll)),
          lonely_fork_(std::move(lonely_fork)),
          meters_(std::move(meters)),
          program_(program) {}

    Result<> run() {
        VTPM_TRY(listen(control_.get(), kControl));
        VTPM_TRY(listen(child_signal_.get(), kChildSignal));
        VTPM_TRY(send_at_last(GiveMeters{}, {meters_.fd()}));
        while (!ended_) {
            std::array<epoll_event, 16> ready;
            const int count = ::epoll_wait(epoll_.get(), ready.data(), ready.size(), -1);
            if (count < 0 && errno != EINTR) return fail_errno("epoll_wait");
            for (int i = 0; i < count; ++i) {
                const epoll_event &event = ready[static_cast<std::size_t>(i)];
                VTPM_TRY(serve_in_want(event.data.u64, event.events));
            }
        }
        return {};
    }

private:
    struct Child {
        pid_t pid;
        StartEngine order;
        UniqueFd control;  // the backend's end, for the next backend; empty once it is released
        EngineLog log;
        std::uint32_t meter;
    };

    using Children = std::pmr::map<std::uint32_t, Child>;

    // What epoll tells: one of these, or the engine that says something.
    static constexpr std::uint64_t kControl = std::uint64_t{1} << 32;
    static constexpr std::uint64_t kChildSignal = kControl + 1;

    Result<> listen(int fd, std::uint64_t source) {
        epoll_event event{.events = EPOLLIN, .data = {.u64 = source}};
        if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return fail_errno("epoll_ctl");
        return {};
    }

    // Whatever there is no memory for, the engines that are there outlive that.
    Result<> serve_in_want(std::uint64_t source, std::uint32_t events) {
        try {
            return serve(source, events);
        } catch (const std::bad_alloc &) {
            return wait_a_moment();
        }
    }

    Result<> serve(std::uint64_t source, std::uint32_t events) {
        if (source == kControl) {
            if ((events & EPOLLOUT) != 0) tell_rest();
            return (events & ~std::uint32_t{EPOLLOUT}) != 0 ? receive() : Result<>{};
        }
        if (source == kChildSignal) {
            reap();
        } else if (const auto child = children_.find(static_cast<std::uint32_t>(source)); child != children_.end()) {
            if (child->second.log.relay() == EngineLog::Heard::kEnd) forget(child->second.log);
        }
        return {};
    }

    // Before it is closed: a child that was just forked may have a duplicate, with which it would stay in the set.
    void forget(const EngineLog &log) { (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, log.fd(), nullptr); }

    void forget(Children::iterator child) {
        meters_.give_back(child->second.meter);
        children_.erase(child);
    }

    // One order may fail; the engines that are there outlive that.
    Result<> receive() {
        std::array<std::uint8_t, kMaxSmallMessage> buffer;
        auto received = receive_order(control_.get(), buffer);
        if (!received)
            return received.error().code == ErrorCode::kSystem ? tl::make_unexpected(received.error())
                                                               : wait_a_moment();
        ended_ = received->size == 0;
        if (ended_) return {};
        if (const auto obeyed = obey(ByteView(buffer).first(received->size), std::move(*received)); !obeyed)
            log::error("an order is ignored: {}", obeyed.error().text);
        return {};
    }

    // For memory: the message is still there.
    static Result<> wait_a_moment() {
        const timespec moment{0, 10'000'000};
        (void)::nanosleep(&moment, nullptr);
        return {};
    }

    Result<> obey(ByteView message, Received received) {
        switch (message_type(message)) {
            case StartEngine::kType: {
                VTPM_ASSIGN(const StartEngine order, decode<StartEngine>(message));
                return start(order, std::move(received));
            }
            case ReleaseEngine::kType: {
                VTPM_ASSIGN(const ReleaseEngine order, decode<ReleaseEngine>(message));
                if (const auto child = children_.find(order.engine); child != children_.end())
                    child->second.control.reset();
                return {};
            }
            case KillEngine::kType: {
                VTPM_ASSIGN(const KillEngine order, decode<KillEngine>(message));
                if (const auto child = children_.find(order.engine); child != children_.end())
                    (void)::kill(child->second.pid, SIGKILL);
                return {};
            }
            case ListEngines::kType: {
                VTPM_ASSIGN(const ListEngines order, decode<ListEngines>(message));
                return list(order.asker);
            }
            default:
                return fail(ErrorCode::kInvalid, "an order of unknown type {}", message_type(message));
        }
    }

    Result<> start(const StartEngine &order, Received received) {
        if (received.lost_descriptors)
            return not_started(order, ErrorCode::kShortage, "its engine has no descriptors: too many are in use");
        try {
            // What is told of an engine needs no memory later.
            reports_.reserve(2 * (children_.size() + 1));
            const auto started = fork_engine(order, std::move(received));
            return started ? Result<>{} : not_started(order, started.error().code, started.error().text);
        } catch (const std::bad_alloc &) {
            return not_started(order, ErrorCode::kShortage, "there is no memory for its engine");
        }
    }

    Result<> fork_engine(const StartEngine &order, Received received) {
        auto &[engine_end, backend_end, state_channel, group] = received.fds;
        UniqueFd says;
        VTPM_ASSIGN(EngineLog log, EngineLog::open(order.uuid, says));
        // Before the fork: a child that is not remembered would never be reaped.
        const auto child =
            children_.emplace(order.engine, Child{0, order, std::move(backend_end), std::move(log), kNoMeter}).first;
        const std::uint32_t meter = meters_.take();
        child->second.meter = meter;
        const Result<pid_t> forked = lonely_fork_.fork();
        if (!forked) {
            forget(child);
            return tl::make_unexpected(forked.error());
        }
        if (*forked == 0)
            be_engine(program_, order, std::move(engine_end), std::move(state_channel), group, says,
                      meters_.keep_only(meter));
        child->second.pid = *forked;
        if (const auto heard = listen(child->second.log.fd(), order.engine); !heard)
            log::warning("vTPM {}: what its engine says is lost: {}", order.uuid.to_string(), heard.error().text);
        tell(EngineStarted{order.engine, static_cast<std::uint32_t>(*forked), meter});
        return {};
    }

    // As if it had exited with that status. The daemon first: a line in the log takes memory.
    Result<> not_started(const StartEngine &order, ErrorCode code, std::string_view why) {
        const int status = code == ErrorCode::kShortage ? kCouldNotStart : 1;
        tell(EngineExited{order.engine, static_cast<std::uint32_t>(status << 8)});
        log::error("vTPM {}: {}", order.uuid.to_string(), why);
        return {};
    }

    // The daemon does nothing but read meanwhile.
    Result<> list(std::uint32_t asker) {
        while (!reports_.empty()) {
            VTPM_TRY(await_room());
            tell_rest();
        }
        VTPM_TRY(send_at_last(GiveMeters{}, {meters_.fd()}));
        for (const auto &[engine, child] : children_) {
            const StartEngine &order = child.order;
            const LivingEngine living{engine,     order.uid,    static_cast<std::uint32_t>(child.pid),
                                      order.uuid, order.domain, order.device,
                                      child.meter};
            // Of an engine that it is not told of, a daemon would start a second one.
            if (child.control)
                VTPM_TRY(send_at_last(living, {child.control.get()}));
            else
                VTPM_TRY(send_at_last(living));
        }
        return send_at_last(EnginesListed{asker, kVersion});
    }

    template <typename Message>
    Result<> send_at_last(const Message &message, std::initializer_list<int> fds = {}) {
        do VTPM_TRY(await_room());
        while (!is_sent(message, fds));
        return {};
    }

    // Or will never be, for nobody is there to hear it.
    template <typename Message>
    bool is_sent(const Message &message, std::initializer_list<int> fds = {}) {
        if (send(control_.get(), message, fds)) return true;
        pollfd room{control_.get(), POLLOUT, 0};
        return ::poll(&room, 1, 0) == 1 && (room.revents & (POLLERR | POLLHUP)) != 0;
    }

    Result<> await_room() {
        pollfd room{control_.get(), POLLOUT, 0};
        while (::poll(&room, 1, -1) < 0)
            if (errno != EINTR) return fail_errno("poll");
        return {};
    }

    void reap() {
        signalfd_siginfo ignored;
        (void)!::read(child_signal_.get(), &ignored, sizeof ignored);  // several exits share one signal: see waitpid
        int status = 0;
        for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
            const auto child = std::ranges::find(children_, pid, [](const auto &entry) { return entry.second.pid; });
            if (child == children_.end()) continue;
            const std::uint32_t engine = child->first;
            while (child->second.log.relay() == EngineLog::Heard::kSomething) {}
            forget(child->second.log);
            forget(child);
            tell(EngineExited{engine, static_cast<std::uint32_t>(status)});
        }
    }

    using Report = std::variant<EngineStarted, EngineExited>;

    // Never waits: a daemon that waits for us to take its orders reads no reports. They are kept for it, or for the
    // next one.
    void tell(const Report &report) {
        if (reports_.empty() && is_told(report)) return;
        reports_.push_back(report);
        listen_for_room(true);
    }

    // Or nobody is there to be told.
    bool is_told(const Report &report) {
        return std::visit([this](const auto &message) { return is_sent(message); }, report);
    }

    void tell_rest() {
        const auto left = std::ranges::find_if_not(reports_, [this](const Report &report) { return is_told(report); });
        reports_.erase(reports_.begin(), left);
        if (reports_.empty()) listen_for_room(false);
    }

    void listen_for_room(bool wanted) {
        epoll_event event{.events = wanted ? EPOLLIN | EPOLLOUT : EPOLLIN, .data = {.u64 = kControl}};
        (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, control_.get(), &event);
    }

    UniqueFd control_;
    UniqueFd child_signal_;
    UniqueFd epoll_;
    LonelyFork lonely_fork_;
    MeterPages meters_;
    EngineProgram program_;
    bool ended_ = false;
    NotForked not_forked_;
    std::pmr::unsynchronized_pool_resource pool_{&not_forked_};
    Children children_{&pool_};
    std::pmr::vector<Report> reports_{&pool_};  // that the daemon had no room for
};

// What every engine needs is paged in and initialised once, and shared by the fork. No random generator is touched:
// OpenSSL seeds one in each child.
void warm_up() {
    (void)OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_ADD_ALL_CIPHERS |
                                  OPENSSL_INIT_ADD_ALL_DIGESTS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS,
                              nullptr);
    for (const char *name : {"SHA1", "SHA256", "SHA384", "SHA512"}) EVP_MD_free(EVP_MD_fetch(nullptr, name, nullptr));
    // The first fetch of a kind makes the tables of all of that kind.
    EVP_CIPHER_free(EVP_CIPHER_fetch(nullptr, "AES-256-CTR", nullptr));
    EVP_RAND_free(EVP_RAND_fetch(nullptr, "CTR-DRBG", nullptr));
    EVP_MAC_free(EVP_MAC_fetch(nullptr, "HMAC", nullptr));
    EVP_KDF_free(EVP_KDF_fetch(nullptr, "HKDF", nullptr));
}

// Engines inherit them: the daemon's standard output may be its stream to the journal, where lines of xen-vtpmd could
// be forged. (Standard error is replaced in each: see EngineLog.)
Result<> give_up_standard_streams() {
    const UniqueFd nothing(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!nothing) return fail_errno("open /dev/null");
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO})
        if (::dup2(nothing.get(), stream) < 0) return fail_errno("dup2");
    return {};
}

}  // namespace

Result<> run_zygote(UniqueFd control, const EngineProgram &program) {
    warm_up();
    VTPM_TRY(give_up_standard_streams());
    if (::fcntl(control.get(), F_SETFL, O_NONBLOCK) != 0) return fail_errno("O_NONBLOCK");
    sigset_t child_only;
    sigemptyset(&child_only);
    sigaddset(&child_only, SIGCHLD);
    sigset_t blocked = child_only;
    // Engines too: a service manager that stops the unit ends the daemon, and its sockets' end is the order to stop.
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGPIPE);  // an engine may outlive who hears what it says
    if (::sigprocmask(SIG_SETMASK, &blocked, nullptr) != 0) return fail_errno("sigprocmask");
    UniqueFd child_signal(::signalfd(-1, &child_only, SFD_CLOEXEC));
    if (!child_signal) return fail_errno("signalfd");
    UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll) return fail_errno("epoll_create1");
    if (landlock_version() == 0) log::warning("this kernel has no Landlock: engines go without it");
    VTPM_ASSIGN(LonelyFork lonely_fork, LonelyFork::prepare());
    VTPM_ASSIGN(MeterPages meters, MeterPages::create());
    VTPM_TRY(enter_empty_world());
    return Zygote(std::move(control), std::move(child_signal), std::move(epoll), std::move(lonely_fork),
                  std::move(meters), program)
        .run();
}

}  // namespace vtpm
