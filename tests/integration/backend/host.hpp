// SPDX-License-Identifier: Apache-2.0
// The daemon's devices with real engine processes, on a fake xenstore and loopback rings; the test plays libxl and the
// guests' kernels.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "backend/device/backend.hpp"
#include "tests/fakes/fake_domains.hpp"
#include "tests/fakes/fake_service_manager.hpp"
#include "tests/fakes/fake_xenstore.hpp"
#include "tests/fakes/loopback_guest.hpp"

namespace vtpm {

class Host {
public:
    // libxl's patience is the subject of one test only: hence the short `hold_init_wait`.
    explicit Host(std::string manager_socket, std::chrono::milliseconds hold_init_wait = std::chrono::milliseconds(10))
        : socket_path(std::move(manager_socket)), hold_init_wait_(hold_init_wait) {}

    Result<> start() {
        VTPM_ASSIGN(engines, EngineHost::start(loop, VTPM_ENGINE_PROGRAM, service, [] {}));
        xenstore.forget_watches();  // of a former daemon: a connection's watches go with it
        launches.emplace(domains, launch_directory);
        client.emplace(loop, socket_path, [this] {
            if (backend) backend->manager_is_back();
        });
        backend.emplace(DeviceServices{loop, *daemons_xenstore, *client, *engines, rings, domains, *launches, 0,
                                       hold_init_wait_, reconcile_interval, power_off_limit, refused_retry});
        client->stay_connected();
        return backend->start();
    }

    // The daemon's process ends, in whatever state it is; its devices are as xenstore has them.
    void daemon_dies() {
        backend.reset();
        client.reset();
        engines.reset();
    }

    // Runs the loop until `done` or for `limit`; says whether it is done.
    template <typename Done>
    bool run_until(Done done, std::chrono::milliseconds limit = std::chrono::seconds(20)) {
        const auto deadline = std::chrono::steady_clock::now() + limit;
        while (!done()) {
            if (std::chrono::steady_clock::now() > deadline) return false;
            (void)sd_event_run(loop.raw(), 20'000);
        }
        return true;
    }
    void run_for(std::chrono::milliseconds time) {
        run_until([] { return false; }, time);
    }

    // As libxl does.
    void attach(DeviceId id, const Uuid &uuid) {
        const std::string own = backend_path(0, id);
        xenstore.write(own + "/frontend", frontend_path(id));
        xenstore.write(own + "/frontend-id", std::to_string(id.domain));
        xenstore.write(own + "/online", "1");
        xenstore.write(own + "/uuid", uuid.to_string());
        xenstore.write(frontend_path(id) + "/state", "1");
        xenstore.write(own + "/state", "1");
    }
    void detach(DeviceId id) {
        xenstore.write(backend_path(0, id) + "/online", "0");
        xenstore.write(backend_path(0, id) + "/state", "5");
    }
    void remove(DeviceId id) {
        (void)xenstore.remove(frontend_path(id));
        (void)xenstore.remove(backend_path(0, id));
    }
    // As Linux does.
    void frontend_initialised(DeviceId id, std::uint32_t ring_ref = 8) {
        xenstore.write(frontend_path(id) + "/ring-ref", std::to_string(ring_ref));
        xenstore.write(frontend_path(id) + "/event-channel", "9");
        xenstore.write(frontend_path(id) + "/feature-protocol-v2", "1");
        frontend_state(id, 3);
    }
    void frontend_state(DeviceId id, int state) { xenstore.write(frontend_path(id) + "/state", std::to_string(state)); }

    std::string own_state(DeviceId id) { return xenstore.read(backend_path(0, id) + "/state").value_or("none"); }
    bool reaches(DeviceId id, const std::string &state) {
        return run_until([&] { return own_state(id) == state; });
    }
    // Attached, with its guest's page in `guest`, and waiting for that.
    bool is_offered(DeviceId id, const Uuid &uuid, LoopbackGuest &guest) {
        rings.guests[id.domain] = &guest;
        attach(id, uuid);
        return reaches(id, "2");
    }
    // And connected.
    bool comes_up(DeviceId id, const Uuid &uuid, LoopbackGuest &guest) {
        if (!is_offered(id, uuid, guest)) return false;
        frontend_initialised(id);
        if (!reaches(id, "4")) return false;
        frontend_state(id, 4);
        run_for(std::chrono::milliseconds(20));
        return true;
    }
    std::string reason(DeviceId id) {
        const auto device = backend->devices().find(id);
        return device == backend->devices().end() ? "no such device" : device->second->reason();
    }
    std::string status(DeviceId id) {
        const auto device = backend->devices().find(id);
        return device == backend->devices().end() ? "no such device" : device->second->status();
    }

    EventLoop loop = std::move(*EventLoop::create());
    std::string socket_path;
    FakeXenstore xenstore;
    std::chrono::milliseconds reconcile_interval{200};
    std::chrono::milliseconds power_off_limit{limits::kPowerOff};
    std::chrono::milliseconds refused_retry{limits::kRefusedRetry};
    Xenstore *daemons_xenstore = &xenstore;  // or what a test has put before it
    std::optional<ManagerClient> client;
    FakeServiceManager service;
    std::unique_ptr<EngineHost> engines;
    LoopbackRings rings;
    FakeDomains domains;
    std::string launch_directory{};  // empty: records end with the daemon
    std::optional<LaunchRecords> launches;
    std::optional<Backend> backend;

private:
    std::chrono::milliseconds hold_init_wait_;
};

}  // namespace vtpm
