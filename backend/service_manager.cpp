// SPDX-License-Identifier: Apache-2.0
#include "backend/service_manager.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/bus.hpp"
#include "base/log.hpp"
#include "shared-protocol/bus_names.hpp"
#include "shared-protocol/time_limits.hpp"

namespace vtpm {
namespace {

// org.freedesktop.systemd1(5)
constexpr const char *kName = "org.freedesktop.systemd1";
constexpr const char *kPath = "/org/freedesktop/systemd1";
constexpr const char *kManager = "org.freedesktop.systemd1.Manager";
constexpr const char *kUnit = "org.freedesktop.systemd1.Unit";
constexpr const char *kJob = "org.freedesktop.systemd1.Job";
constexpr std::uint64_t kLimit = std::chrono::microseconds(limits::kServiceManager).count();

// Not CloseBus: nobody waits until what was not sent yet is.
struct DropBus {
    void operator()(sd_bus *bus) const { sd_bus_close_unref(bus); }
};

struct ReleaseMessage {
    void operator()(sd_bus_message *message) const { sd_bus_message_unref(message); }
};
using Message = std::unique_ptr<sd_bus_message, ReleaseMessage>;

Result<> check(int returned, const char *what) {
    if (returned >= 0) return {};
    return fail(ErrorCode::kUnavailable, "systemd: {}: {}", what, std::strerror(-returned));
}

template <typename... Arguments>
Result<Message> call(sd_bus *bus, const char *method, const char *types, Arguments... arguments) {
    sd_bus_message *reply = nullptr;
    VTPM_TRY(
        check(sd_bus_call_method(bus, kName, kPath, kManager, method, nullptr, &reply, types, arguments...), method));
    return Message(reply);
}

Result<Message> property(sd_bus *bus, const char *path, const char *interface, const char *name, const char *type) {
    sd_bus_message *reply = nullptr;
    VTPM_TRY(check(sd_bus_get_property(bus, kName, path, interface, name, nullptr, &reply, type), name));
    return Message(reply);
}

Result<std::string> text_in(sd_bus_message *message, const char *type) {
    const char *text = nullptr;
    VTPM_TRY(check(sd_bus_message_read(message, type, &text), type));
    return std::string(text);
}

// "start", "stop", "restart", ... or empty: nobody has asked systemd for anything.
Result<std::string> job_type() {
    VTPM_ASSIGN(const bus::Connection bus, bus::open_system());
    VTPM_TRY(check(sd_bus_set_method_call_timeout(bus.get(), kLimit), "a time limit"));
    VTPM_ASSIGN(const Message unit, call(bus.get(), "GetUnitByPID", "u", static_cast<std::uint32_t>(::getpid())));
    VTPM_ASSIGN(const std::string unit_path, text_in(unit.get(), "o"));
    VTPM_ASSIGN(const Message job, property(bus.get(), unit_path.c_str(), kUnit, "Job", "(uo)"));
    std::uint32_t number = 0;
    const char *job_path = nullptr;
    VTPM_TRY(check(sd_bus_message_read(job.get(), "(uo)", &number, &job_path), "Job"));
    if (number == 0) return std::string();
    VTPM_ASSIGN(const Message type, property(bus.get(), job_path, kJob, "JobType", "s"));
    return text_in(type.get(), "s");
}

// Who answers once, from the loop: the owner may destroy it then, in which sd-bus is not to be in the middle of it.
class Pending : public ServiceManager::Request {
public:
    Pending(EventLoop &loop, ServiceManager::Done done) : loop_(loop), done_(std::move(done)) {}

    void wait(const char *for_what) {
        if (auto timer = loop_.after(limits::kServiceManager, [this, for_what] {
                finish(fail(ErrorCode::kUnavailable, "systemd does not say whether it has {}", for_what));
            }))
            limit_ = std::move(*timer);
    }
    void finish(const Result<> &result) {
        if (finished_) return;
        limit_.reset();
        if (auto soon = loop_.when_idle([done = std::move(done_), result] { done(result); }))
            finished_ = std::move(*soon);
    }

protected:
    EventLoop &loop_;

private:
    ServiceManager::Done done_;
    EventSource limit_;
    EventSource finished_;
};

// The engines stop after the daemon, which tells them to, and before the manager, which keeps their states.
class ScopeRequest final : public Pending {
public:
    using Pending::Pending;

    Result<> start(pid_t process) {
        sd_bus *raw = nullptr;
        VTPM_TRY(check(sd_bus_open_system(&raw), "the system bus"));
        bus_.reset(raw);
        VTPM_TRY(check(sd_bus_attach_event(raw, loop_.raw(), SD_EVENT_PRIORITY_NORMAL), "attach"));
        VTPM_TRY(check(
            sd_bus_match_signal_async(raw, nullptr, kName, kPath, kManager, "JobRemoved", on_removed, on_answer, this),
            "JobRemoved"));
        VTPM_TRY(check(sd_bus_call_method_async(raw, nullptr, kName, kPath, kManager, "Subscribe", on_answer, this, ""),
                       "Subscribe"));
        const std::string name = scope_name(process);
        VTPM_TRY(check(
            sd_bus_call_method_async(raw, nullptr, kName, kPath, kManager, "StartTransientUnit", on_started, this,  //
                                     "ssa(sv)a(sa(sv))", name.c_str(), "fail",                                      //
                                     10,                                                                            //
                                     "Description", "s", "TPMs of Xen guests",                                      //
                                     "PIDs", "au", 1, static_cast<std::uint32_t>(process),                          //
                                     "After", "as", 1, "xen-vtpm-managerd.service",                                 //
                                     "Before", "as", 1, "xen-vtpmd.service",                                        //
                                     "CollectMode", "s", "inactive-or-failed",                                      //
                                     "TimeoutStopUSec", "t", std::uint64_t{20'000'000},                             //
                                     "TasksMax", "t", kScopeTasks,                                                  //
                                     "MemorySwapMax", "t", std::uint64_t{0},                                        //
                                     "DevicePolicy", "s", "closed",                                                 //
                                     "Delegate", "b", 1,                                                            //
                                     0),
            "StartTransientUnit"));
        return {};
    }

private:
    // What start() gave to sd-bus.
    static ScopeRequest &self(void *userdata) { return *static_cast<ScopeRequest *>(userdata); }

    static int on_answer(sd_bus_message *answer, void *userdata, sd_bus_error *) noexcept {
        const sd_bus_error *error = sd_bus_message_get_error(answer);
        if (error != nullptr) self(userdata).fails(error->message != nullptr ? error->message : error->name);
        return 1;
    }
    static int on_started(sd_bus_message *answer, void *userdata, sd_bus_error *error) noexcept {
        (void)on_answer(answer, userdata, error);
        const char *path = nullptr;
        if (sd_bus_message_is_method_error(answer, nullptr) == 0 && sd_bus_message_read(answer, "o", &path) >= 0)
            self(userdata).job_ = path;
        return 1;
    }
    static int on_removed(sd_bus_message *signal, void *userdata, sd_bus_error *) noexcept {
        std::uint32_t number = 0;
        const char *path = nullptr;
        const char *unit = nullptr;
        const char *result = nullptr;
        if (sd_bus_message_read(signal, "uoss", &number, &path, &unit, &result) < 0 || self(userdata).job_ != path)
            return 0;
        if (std::string_view(result) == "done")
            self(userdata).finish({});
        else
            self(userdata).fails(result);
        return 0;
    }
    void fails(std::string_view why) { finish(fail(ErrorCode::kUnavailable, "systemd: the scope: {}", why)); }

    std::unique_ptr<sd_bus, DropBus> bus_;
    std::string job_;  // that starts it
};

// sd_notify_barrier(3), without waiting: systemd closes the pipe when it has taken what was sent before.
class Barrier final : public Pending {
public:
    using Pending::Pending;

    Result<> start() {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno("pipe");
        ours_ = UniqueFd(ends[0]);
        const UniqueFd theirs(ends[1]);
        const int fd = theirs.get();
        VTPM_TRY(check(sd_pid_notify_with_fds(0, 0, "BARRIER=1", &fd, 1), "BARRIER"));
        VTPM_ASSIGN(closed_, loop_.on_readable(ours_.get(), [this] {
            closed_.reset();
            finish({});
        }));
        return {};
    }

private:
    UniqueFd ours_;
    EventSource closed_;
};

// What cannot even be asked for is answered in the same way.
template <typename Asked>
std::unique_ptr<ServiceManager::Request> begin(std::unique_ptr<Asked> request, const Result<> &started,
                                               const char *for_what) {
    if (started)
        request->wait(for_what);
    else
        request->finish(started);
    return request;
}

class Systemd final : public ServiceManager {
public:
    std::unique_ptr<Request> keep(EventLoop &loop, const std::string &name, int fd, Done done) override {
        if (sd_pid_notify_with_fds(0, 0, ("FDSTORE=1\nFDNAME=" + name).c_str(), &fd, 1) < 0)
            log::warning("systemd does not take the engines' connection: a restart of xen-vtpmd will end their TPMs");
        auto barrier = std::make_unique<Barrier>(loop, std::move(done));
        const auto started = barrier->start();
        return begin(std::move(barrier), started, "kept the engines' connection");
    }

    void forget(const std::string &name) override { (void)sd_notify(0, ("FDSTOREREMOVE=1\nFDNAME=" + name).c_str()); }

    std::vector<KeptDescriptor> kept() override {
        char **names = nullptr;
        const int count = sd_listen_fds_with_names(1, &names);
        std::vector<KeptDescriptor> result;
        for (int i = 0; i < count; ++i) {
            result.push_back({names[i], UniqueFd(SD_LISTEN_FDS_START + i)});
            std::free(names[i]);
        }
        std::free(names);
        return result;
    }

    std::unique_ptr<Request> give_scope(EventLoop &loop, pid_t process, Done done) override {
        auto request = std::make_unique<ScopeRequest>(loop, std::move(done));
        const auto started = request->start(process);
        return begin(std::move(request), started, "started the scope");
    }

    // If nobody knows: what is left behind ends by itself when systemd drops the descriptors.
    bool is_restarting() override {
        const auto type = job_type();
        if (!type) log::warning("is this a restart? {}", type.error().text);
        return !type || *type == "restart" || *type == "try-restart";
    }
};

class NoServiceManager final : public ServiceManager {
public:
    std::unique_ptr<Request> keep(EventLoop &loop, const std::string &, int, Done done) override {
        return answer_soon(loop, {}, std::move(done));
    }
    void forget(const std::string &) override {}
    std::vector<KeptDescriptor> kept() override { return {}; }
    std::unique_ptr<Request> give_scope(EventLoop &loop, pid_t, Done done) override {
        return answer_soon(loop, {}, std::move(done));
    }
    bool is_restarting() override { return false; }
};

}  // namespace

std::unique_ptr<ServiceManager::Request> answer_soon(EventLoop &loop, const Result<> &result,
                                                     ServiceManager::Done done) {
    auto request = std::make_unique<Pending>(loop, std::move(done));
    request->finish(result);
    return request;
}

std::string scope_name(pid_t zygote) { return fmt::format("{}{}.scope", kEngineScope, zygote); }

std::unique_ptr<ServiceManager> make_service_manager() {
    if (std::getenv("NOTIFY_SOCKET") == nullptr) return std::make_unique<NoServiceManager>();
    return std::make_unique<Systemd>();
}

}  // namespace vtpm
