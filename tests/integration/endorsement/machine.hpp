// SPDX-License-Identifier: Apache-2.0
// A machine: manager, its hardware TPM (swtpm), engine and the command line are real processes; xenstore and the ring
// are not.
#pragma once

#include <csignal>
#include <fstream>
#include "tests/catch.hpp"

#include "backend/engine/tpm_messages.hpp"
#include "manager/tpm/endorsement_key.hpp"
#include "tests/fakes/tpm_commands.hpp"
#include "tests/integration/backend/host.hpp"
#include "tests/integration/manager/manager_process.hpp"
#include "tests/integration/manager/swtpm.hpp"

namespace vtpm {

inline std::size_t u16_at(const Bytes &bytes, std::size_t at) {
    return std::size_t{bytes.at(at)} << 8 | bytes.at(at + 1);
}

struct Machine {
    TemporaryDirectory directory;
    std::optional<Swtpm> tpm{std::in_place, directory / "hardware-tpm"};
    PrivateBus bus{directory / "bus"};
    ManagerPlace place{directory, tpm->tcti(), bus.address(), {}};
    std::optional<ManagerProcess> manager;
    std::optional<Host> host;
    LoopbackGuest ring{};
    DeviceId device{7, 0};
    Uuid uuid = Uuid::random();

    explicit Machine(const std::string &config = {}) {
        place.more_config = config;
        manager.emplace(place);
        host.emplace(place.socket());
        expect(host->start());
    }
    void power_on() {
        const bool up = host->comes_up(device, uuid, ring);
        INFO(host->reason(device));
        REQUIRE(up);
    }
    void power_off() {
        host->detach(device);
        REQUIRE(host->reaches(device, "6"));
        host->remove(device);
        host->run_for(std::chrono::milliseconds(20));
    }
    // The manager stops in order, and starts with this configuration.
    void reconfigure(const std::string &config) {
        manager->end(SIGTERM);
        place.more_config = config;
        manager.emplace(place);
    }
    Bytes execute(const Bytes &command) {
        ring.submit(command);
        return ring.response(std::chrono::seconds(20));
    }
    Output xen_vtpm(std::vector<std::string> arguments) { return cli(bus.address(), std::move(arguments)); }
    [[nodiscard]] std::string file(const std::string &name) const { return directory / name.c_str(); }
    [[nodiscard]] std::string write(const std::string &name, const std::string &content) const {
        std::ofstream(file(name), std::ios::binary) << content;
        return file(name);
    }

    // TPM2_NV_ReadPublic and TPM2_NV_Read, by the index' own empty password; nothing if there is no such index.
    Bytes nv_content(std::uint32_t index) {
        const Bytes area = execute(commands::Command(commands::kNoSessions, 0x169).u32(index).build());
        if (return_code(area) != 0) return {};
        const std::size_t size = u16_at(area, 10 + 2 + 4 + 2 + 4 + 2);  // after index, nameAlg, attributes and policy
        Bytes content;
        while (content.size() < size) {
            const auto part = static_cast<std::uint16_t>(std::min<std::size_t>(512, size - content.size()));
            const Bytes read = execute(commands::Command(commands::kSessions, 0x14E)
                                           .u32(index)
                                           .u32(index)
                                           .password()
                                           .u16(part)
                                           .u16(static_cast<std::uint16_t>(content.size()))
                                           .build());
            REQUIRE(return_code(read) == 0);
            content.insert(content.end(), read.begin() + 16, read.begin() + 16 + part);
        }
        return content;
    }
    // TPM2_CreatePrimary in the endorsement hierarchy: the TPM2B_PUBLIC.
    Bytes endorsement_public(EkTemplate kind) {
        const Bytes created = execute(commands::Command(commands::kSessions, 0x131)
                                          .u32(0x4000000B)  // TPM_RH_ENDORSEMENT

                                          .password()
                                          .u16(4)
                                          .u32(0)
                                          .data(ek_template(kind))
                                          .u16(0)
                                          .u32(0)
                                          .build());
        REQUIRE(return_code(created) == 0);
        const Bytes handle(created.begin() + 10, created.begin() + 14);
        REQUIRE(return_code(execute(commands::Command(commands::kNoSessions, 0x165).data(handle).build())) == 0);
        const auto begin = created.begin() + 18;
        return {begin, begin + 2 + static_cast<std::ptrdiff_t>(u16_at(created, 18))};
    }
};

inline Output openssl(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "openssl");
    return run({std::move(arguments), {}, {}});
}

inline std::string text(const Bytes &bytes) { return {bytes.begin(), bytes.end()}; }

}  // namespace vtpm
