// SPDX-License-Identifier: Apache-2.0
// A machine whose hardware TPM measures something, and what its guest's TPM shows of that.
#pragma once

#include "manager/hardware_tpm/hardware_tpm.hpp"
#include "manager/hardware_tpm/tpm_error.hpp"
#include "tests/integration/endorsement/machine.hpp"

namespace vtpm {

struct MeasuringMachine : Machine {
    using Machine::Machine;

    // The daemon runs meanwhile: it may have to do something for the answer.
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
