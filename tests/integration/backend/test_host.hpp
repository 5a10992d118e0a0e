// SPDX-License-Identifier: Apache-2.0
// A host with a fake manager, whose devices the tests bring up.
#pragma once

#include <unistd.h>

#include <filesystem>
#include "tests/catch.hpp"

#include "backend/engine/tpm_messages.hpp"
#include "tests/fakes/fake_manager.hpp"
#include "tests/fakes/tpm_commands.hpp"
#include "tests/integration/backend/host.hpp"

namespace vtpm {

class TestHost : public Host {
public:
    explicit TestHost(std::chrono::milliseconds hold_init_wait = std::chrono::milliseconds(10))
        : Host(std::filesystem::temp_directory_path() / ("xen-vtpm-test-" + std::to_string(::getpid())),
               hold_init_wait) {
        REQUIRE(start());
    }

    // Attached, and its guest's page in `guest`; with bring_up() connected, too.
    void offer(DeviceId id, const Uuid &uuid, LoopbackGuest &guest) { REQUIRE(is_offered(id, uuid, guest)); }
    void bring_up(DeviceId id, const Uuid &uuid, LoopbackGuest &guest) { REQUIRE(comes_up(id, uuid, guest)); }
    // Lets engine and manager do their work while the guest waits for its response.
    Bytes execute(LoopbackGuest &guest, ByteView command) {
        guest.submit(command);
        run_until([&] { return guest.state() != TPMIF_STATE_SUBMIT; });
        return guest.response(std::chrono::milliseconds(0));
    }

    // Another daemon in the place of this one, which takes over what runs.
    void restart_daemon() {
        daemon_dies();
        REQUIRE(start());
    }
    pid_t engine_pid(DeviceId id) {
        REQUIRE(run_until([&] { return backend->devices().at(id)->engine_pid() > 1; }));
        return static_cast<pid_t>(backend->devices().at(id)->engine_pid());
    }

    FakeManager manager{loop, socket_path};
};

constexpr DeviceId kDevice{7, 0};
constexpr DeviceId kOther{8, 0};
inline const Uuid kUuid = *Uuid::parse("11111111-2222-3333-4444-555555555555");
constexpr std::uint32_t kIndex = 0x01500001;
inline const Bytes kZeroPcr(32, 0);

inline std::uint32_t rc(const Bytes &response) { return response.empty() ? 0xffffffff : return_code(response); }

}  // namespace vtpm
