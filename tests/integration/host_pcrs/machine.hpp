// SPDX-License-Identifier: Apache-2.0
// A host with one guest: manager, its hardware TPM (swtpm) and engine are real processes; xenstore, the hypervisor and
// the ring are not.
#pragma once

#include "backend/engine/tpm_messages.hpp"
#include "manager/hardware_tpm/hardware_tpm.hpp"
#include "manager/hardware_tpm/tpm_error.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/tpm_commands.hpp"
#include "tests/integration/backend/host.hpp"
#include "tests/integration/manager/manager_process.hpp"
#include "tests/integration/manager/swtpm.hpp"

namespace vtpm {

struct Machine {
    TemporaryDirectory directory;
    std::optional<Swtpm> tpm{std::in_place, directory / "hardware-tpm"};
    PrivateBus bus{directory / "bus"};
    ManagerPlace place{directory, tpm->tcti(), bus.address()};
    std::optional<ManagerProcess> manager;
    std::optional<Host> host;
    LoopbackGuest ring{};
    DeviceId device{7, 0};
    Uuid uuid = Uuid::random();

    explicit Machine(const std::string &config) {
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
    Bytes execute(const Bytes &command) {
        ring.submit(command);
        host->run_until([&] { return ring.state() != TPMIF_STATE_SUBMIT; });
        return ring.response(std::chrono::milliseconds(0));
    }
    Bytes pcr(unsigned number) { return commands::pcr_value(execute(commands::pcr_read(number))); }

    // The host measures something. The hardware TPM serves one at a time: the manager lets go of it after each use.
    void measure(ESYS_TR number, const std::string &what) {
        const Esys esys = expect(connect_tpm(tpm->tcti()));
        TPM2B_EVENT event{static_cast<UINT16>(what.size()), {}};
        std::ranges::copy(what, event.buffer);
        EsysPtr<TPML_DIGEST_VALUES> digests;
        expect(checked("TPM2_PCR_Event", [&] {
            return Esys_PCR_Event(esys.get(), number, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &event,
                                  out(digests));
        }));
    }
    Bytes of_the_host(const std::string &pcr) {
        HardwareTpm hardware = expect(HardwareTpm::open(tpm->tcti(), {}));
        return joined(expect(hardware.read(expect(PcrSelection::parse(pcr)))));
    }
};

}  // namespace vtpm
