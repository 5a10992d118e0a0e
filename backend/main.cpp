// SPDX-License-Identifier: Apache-2.0
// xen-vtpmd: the backend daemon. See xen-vtpmd(8).
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "backend/device/backend.hpp"
#include "backend/device/engine_host.hpp"
#include "backend/launch_records.hpp"
#include "backend/manager_client.hpp"
#include "backend/service_manager.hpp"
#include "backend/status_line.hpp"
#include "backend/upgrade.hpp"
#include "backend/xen/domains_client.hpp"
#include "backend/xen/ring_opener.hpp"
#include "backend/xen/xenstore.hpp"
#include "base/log.hpp"
#include "base/program_options.hpp"
#include "shared-protocol/bus_names.hpp"
#include "version.hpp"

namespace vtpm {
namespace {

struct Options {
    std::string manager_socket = "/run/xen-vtpm/manager.sock";
    std::string engine_program = VTPM_ENGINE_PROGRAM;
    std::string domains_socket = kDomainsSocket;
    bool checks_upgrade = false;
};

// As many guests as may be: with 1024, which a shell gives, some 480.
void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
    limit.rlim_cur = limit.rlim_max;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) log::warning("the limit of descriptors stays as it is");
}

bus::Dictionary describe(const EngineHost &engines, const LaunchRecords &launches) {
    return {{"engines", static_cast<std::uint32_t>(engines.count())},
            {"room", static_cast<std::uint32_t>(engines.room())},
            {"launches", static_cast<std::uint32_t>(launches.size())}};
}

bus::Rows describe(const Backend &backend) {
    bus::Rows rows;
    for (const auto &[id, device] : backend.devices()) {
        if (device->finished()) continue;
        rows.push_back({{"device", to_string(id)},
                        {"uuid", device->uuid() ? device->uuid()->to_string() : std::string()},
                        {"state", device->status()},
                        {"engine_pid", device->engine_pid()},
                        {"engine_version", device->engine_version()},
                        {"reason", device->reason()}});
    }
    return rows;
}

std::string text_of(const std::map<std::uint32_t, std::uint64_t> &errors) {
    std::string text;
    for (const auto &[code, count] : errors) text += fmt::format("{}{:#x}:{}", text.empty() ? "" : " ", code, count);
    return text;
}

bus::Rows describe_meters(const Backend &backend) {
    bus::Rows rows;
    for (const auto &[id, device] : backend.devices()) {
        const auto meter = device->meter();
        if (!meter || !device->uuid()) continue;
        rows.push_back({{"device", to_string(id)},
                        {"uuid", device->uuid()->to_string()},
                        {"commands", meter->commands},
                        {"microseconds", meter->microseconds},
                        {"latency", fmt::format("{}", fmt::join(meter->latency, " "))},
                        {"stores", meter->stores},
                        {"errors", text_of(meter->errors)},
                        {"other_errors", meter->other_errors}});
    }
    return rows;
}

// Looked for again every few seconds, and told to systemd when it is another.
class StatusLine {
public:
    StatusLine(EventLoop &loop, std::function<Serving()> ask) : loop_(loop), ask_(std::move(ask)) {}

    void look() {
        std::string line = status_line(ask_());
        if (line != told_) (void)sd_notify(0, ("STATUS=" + line).c_str());
        told_ = std::move(line);
        if (auto next = loop_.after(kPause, [this] { look(); })) next_ = std::move(*next);
    }

private:
    static constexpr std::chrono::seconds kPause{5};

    EventLoop &loop_;
    std::function<Serving()> ask_;
    std::string told_;
    EventSource next_;
};

// Guests that were never created, or have no TPM, take no record.
class LaunchSweep {
public:
    LaunchSweep(EventLoop &loop, LaunchRecords &launches) : loop_(loop), launches_(launches) {}

    void look() {
        launches_.forget_gone();
        if (auto next = loop_.after(kPause, [this] { look(); })) next_ = std::move(*next);
    }

private:
    static constexpr std::chrono::seconds kPause{60};

    EventLoop &loop_;
    LaunchRecords &launches_;
    EventSource next_;
};

Result<bus::Reply> record_launch(LaunchRecords &launches, const bus::Arguments &arguments) {
    VTPM_ASSIGN(RecordLaunch launch, parse_record_launch(arguments));
    VTPM_TRY(launches.record(std::move(launch)));
    return std::monostate{};
}

Serving serving(const Backend &backend, const EngineHost &engines, bool has_manager) {
    Serving all{.room = engines.room(), .has_manager = has_manager};
    for (const auto &[id, device] : backend.devices()) {
        if (device->finished()) continue;
        const std::string status = device->status();
        ++all.devices;
        if (status == "connected") ++all.connected;
        if (status == "failed") ++all.failed;
    }
    return all;
}

Result<> run(const Options &options) {
    raise_descriptor_limit();
    VTPM_ASSIGN(EventLoop loop, EventLoop::create());
    std::function<void()> end = [&] { loop.stop(); };
    // Before libxenstore starts its thread.
    VTPM_ASSIGN(const EventSource terminate, loop.on_signal(SIGTERM, [&] { end(); }));
    VTPM_ASSIGN(const EventSource interrupt, loop.on_signal(SIGINT, [&] { end(); }));

    const auto service = make_service_manager();
    bool zygote_lost = false;
    VTPM_ASSIGN(const auto engines, EngineHost::start(loop, options.engine_program, *service, [&] {
                    zygote_lost = true;
                    loop.stop();
                }));
    VTPM_ASSIGN(const auto xenstore, open_xenstore([](const std::string &why) {
                    // The next xen-vtpmd takes over the engines when xenstored is there again.
                    log::error("xen-vtpmd: {}", why);
                    std::_Exit(1);
                }));
    // "domid" is relative: xenstored resolves it in the caller's own domain. dom0 may lack it.
    const std::uint32_t own_domain = xenstore->read_number("domid").value_or(0);

    Backend *backend_if_built = nullptr;
    ManagerClient manager(loop, options.manager_socket, [&] {
        if (backend_if_built != nullptr) backend_if_built->manager_is_back();
    });
    const auto rings = make_xen_ring_opener();
    DomainsClient domains(options.domains_socket);
    const char *const kept = std::getenv("RUNTIME_DIRECTORY");  // systemd.exec(5)
    LaunchRecords launches(domains, kept != nullptr ? kept : "");
    std::optional<Backend> backend(
        std::in_place, DeviceServices{loop, *xenstore, manager, *engines, *rings, domains, launches, own_domain});
    backend_if_built = &*backend;
    LaunchSweep sweep(loop, launches);

    bus::Server control(
        loop, kBackendBus,
        {{"ListDevices", "", "aa{sv}",
          [&](const bus::Arguments &) { return backend ? describe(*backend) : bus::Rows{}; }},
         {"ListMeters", "", "aa{sv}",
          [&](const bus::Arguments &) { return backend ? describe_meters(*backend) : bus::Rows{}; }},
         {"Status", "", "a{sv}", [&](const bus::Arguments &) { return describe(*engines, launches); }},
         {kRecordLaunch, "ss", "", [&](const bus::Arguments &a) { return record_launch(launches, a); }},
         {"ListZygotes", "", "aa{sv}", [&](const bus::Arguments &) { return describe_zygotes(*engines); }}},
        [](const std::string &text) { log::warning("{}", text); });

    control.start();
    manager.stay_connected();
    VTPM_TRY(backend->start());
    loop.feed_watchdog();
    StatusLine line(loop, [&] { return backend ? serving(*backend, *engines, manager.connected()) : Serving{}; });
    line.look();
    sweep.look();
    (void)sd_notify(0, "READY=1");
    end = [&, ending = false]() mutable {
        if (std::exchange(ending, true)) return loop.stop();  // who asks twice does not wait
        (void)sd_notify(0, "STOPPING=1\nSTATUS=Stops");
        const bool restarting = service->is_restarting();
        log::info("{} TPMs {}", engines->count(), restarting ? "are left to the next xen-vtpmd" : "are powered off");
        if (restarting) return loop.stop();
        backend_if_built = nullptr;
        backend.reset();
        engines->stop_all([&] { loop.stop(); });
    };
    VTPM_TRY(loop.run());
    if (zygote_lost) return fail(ErrorCode::kSystem, "the engines' parent process has ended");
    return {};
}

}  // namespace
}  // namespace vtpm

int main(int argc, char **argv) {
    vtpm::Options options;
    const vtpm::Program program{"The backend of Xen's paravirtual TPMs",
                                "",
                                vtpm::kVersion,
                                {{"--check-upgrade", &options.checks_upgrade,
                                  "Only say whether this program can take over the TPMs that run, and end"},
                                 {"--manager-socket", &options.manager_socket, "Where xen-vtpm-managerd listens"},
                                 {"--domains-socket", &options.domains_socket, "Where xen-vtpm-domains listens"},
                                 {"--engine", &options.engine_program, "The engine program"}}};
    if (const auto status = vtpm::read_command_line(program, argc, argv)) return *status;

    vtpm::Result<> ended;
    if (options.checks_upgrade)
        ended = vtpm::check_upgrade().map([](const std::string &answer) { std::puts(answer.c_str()); });
    else
        ended = vtpm::run(options);
    if (!ended) vtpm::log::error("xen-vtpmd: {}", ended.error().text);
    return ended ? 0 : 1;
}
