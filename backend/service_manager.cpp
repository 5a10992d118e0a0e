// SPDX-License-Identifier: Apache-2.0
#include "backend/service_manager.hpp"

#include <fmt/format.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "base/bus.hpp"
#include "base/log.hpp"

namespace vtpm {
namespace {

// org.freedesktop.systemd1(5)
constexpr const char *kName = "org.freedesktop.systemd1";
constexpr const char *kPath = "/org/freedesktop/systemd1";
constexpr const char *kManager = "org.freedesktop.systemd1.Manager";
constexpr const char *kUnit = "org.freedesktop.systemd1.Unit";
constexpr const char *kJob = "org.freedesktop.systemd1.Job";
constexpr std::uint64_t kLimit = 5'000'000;  // microseconds

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

// A unit that systemd is asked to start, until it has.
struct Job {
    std::string path;
    std::string result;

    static int removed(sd_bus_message *signal, void *userdata, sd_bus_error *) noexcept {
        auto *job = static_cast<Job *>(userdata);
        std::uint32_t number = 0;
        const char *path = nullptr;
        const char *unit = nullptr;
        const char *result = nullptr;
        if (sd_bus_message_read(signal, "uoss", &number, &path, &unit, &result) >= 0 && job->path == path)
            job->result = result;
        return 0;
    }
};

// The engines stop after the daemon, which tells them to, and before the manager, which keeps their states.
Result<Message> start_scope(sd_bus *bus, pid_t process) {
    const std::string name = scope_name(process);
    return call(bus, "StartTransientUnit", "ssa(sv)a(sa(sv))", name.c_str(), "fail",  //
                10,                                                                   //
                "Description", "s", "TPMs of Xen guests",                             //
                "PIDs", "au", 1, static_cast<std::uint32_t>(process),                 //
                "After", "as", 1, "xen-vtpm-managerd.service",                        //
                "Before", "as", 1, "xen-vtpmd.service",                               //
                "CollectMode", "s", "inactive-or-failed",                             //
                "TimeoutStopUSec", "t", std::uint64_t{20'000'000},                    //
                "TasksMax", "t", kScopeTasks,                                         //
                "MemorySwapMax", "t", std::uint64_t{0},                               //
                "DevicePolicy", "s", "closed",                                        //
                "Delegate", "b", 1,                                                   //
                0);
}

class Systemd final : public ServiceManager {
public:
    void keep(const std::string &name, int fd) override {
        if (sd_pid_notify_with_fds(0, 0, ("FDSTORE=1\nFDNAME=" + name).c_str(), &fd, 1) < 0)
            log::warning("systemd does not take the engines' connection: a restart of xen-vtpmd will end their TPMs");
        (void)sd_notify_barrier(0, kLimit);
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

    Result<> give_scope(pid_t process) override {
        VTPM_ASSIGN(const bus::Connection bus, bus::open_system());
        VTPM_TRY(check(sd_bus_set_method_call_timeout(bus.get(), kLimit), "a time limit"));
        Job job;
        VTPM_TRY(
            check(sd_bus_match_signal(bus.get(), nullptr, kName, kPath, kManager, "JobRemoved", Job::removed, &job),
                  "JobRemoved"));
        VTPM_TRY(call(bus.get(), "Subscribe", ""));
        VTPM_ASSIGN(const Message started, start_scope(bus.get(), process));
        VTPM_ASSIGN(job.path, text_in(started.get(), "o"));
        while (job.result.empty()) {
            const int processed = sd_bus_process(bus.get(), nullptr);
            VTPM_TRY(check(processed, "process"));
            if (processed == 0 && job.result.empty() && sd_bus_wait(bus.get(), kLimit) <= 0)
                return fail(ErrorCode::kUnavailable, "systemd does not say whether it has started the scope");
        }
        if (job.result != "done") return fail(ErrorCode::kUnavailable, "systemd: the scope: {}", job.result);
        return {};
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
    void keep(const std::string &, int) override {}
    void forget(const std::string &) override {}
    std::vector<KeptDescriptor> kept() override { return {}; }
    Result<> give_scope(pid_t) override { return {}; }
    bool is_restarting() override { return false; }
};

}  // namespace

std::string scope_name(pid_t zygote) { return fmt::format("xen-vtpm-engines-{}.scope", zygote); }

std::unique_ptr<ServiceManager> make_service_manager() {
    if (std::getenv("NOTIFY_SOCKET") == nullptr) return std::make_unique<NoServiceManager>();
    return std::make_unique<Systemd>();
}

}  // namespace vtpm
