// SPDX-License-Identifier: Apache-2.0
// The daemon's devices with real engine processes, on a fake xenstore, a fake manager and loopback rings.
#pragma once

#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "backend/device/backend.hpp"
#include "backend/engine/tpm_messages.hpp"
#include "tests/fakes/fake_manager.hpp"
#include "tests/fakes/fake_xenstore.hpp"
#include "tests/fakes/loopback_guest.hpp"

namespace vtpm {

class TestHost {
public:
    // libxl's patience is the subject of one test only.
    explicit TestHost(std::chrono::milliseconds hold_init_wait = std::chrono::milliseconds(10)) {
        backend.emplace(DeviceServices{loop, xenstore, client, *engines, rings, 0, hold_init_wait});
        client.stay_connected();
        REQUIRE(backend->start());
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
    // Attached, connected, and its guest's page in `guest`.
    void bring_up(DeviceId id, const Uuid &uuid, LoopbackGuest &guest) {
        rings.guests[id.domain] = &guest;
        attach(id, uuid);
        REQUIRE(reaches(id, "2"));
        frontend_initialised(id);
        REQUIRE(reaches(id, "4"));
        frontend_state(id, 4);
        run_for(std::chrono::milliseconds(20));
    }
    // Lets engine and manager do their work while the guest waits for its response. Like every TSS, asks again on
    // TPM_RC_RETRY: a TPM's first use of a DA-protected object after start-up answers with it (Part 1, 19.8.6).
    Bytes execute(LoopbackGuest &guest, ByteView command) {
        for (;;) {
            guest.submit(command);
            run_until([&] { return guest.state() != TPMIF_STATE_SUBMIT; });
            Bytes response = guest.response(std::chrono::milliseconds(0));
            if (return_code(response) != 0x922) return response;
        }
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
    std::string socket_path = std::filesystem::temp_directory_path() / ("xen-vtpm-test-" + std::to_string(::getpid()));
    FakeXenstore xenstore;
    FakeManager manager{loop, socket_path};
    ManagerClient client{loop, socket_path, [this] {
                             if (backend) backend->manager_is_back();
                         }};
    std::unique_ptr<EngineHost> engines = std::move(*EngineHost::start(loop, VTPM_ENGINE_PROGRAM, [] {}));
    LoopbackRings rings;
    std::optional<Backend> backend;
};

}  // namespace vtpm
