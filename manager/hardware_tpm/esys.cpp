// SPDX-License-Identifier: Apache-2.0
#include "manager/hardware_tpm/esys.hpp"

#include <tss2/tss2_rc.h>
#include <tss2/tss2_tctildr.h>

#include "manager/hardware_tpm/tpm_error.hpp"

namespace vtpm {

void CloseEsys::operator()(ESYS_CONTEXT *context) const {
    TSS2_TCTI_CONTEXT *tcti = nullptr;
    (void)Esys_GetTcti(context, &tcti);  // ESAPI does not close a connection that it was given
    Esys_Finalize(&context);
    Tss2_TctiLdr_Finalize(&tcti);
}

Result<Esys> connect_tpm(const std::string &tcti_name) {
    TSS2_TCTI_CONTEXT *tcti = nullptr;
    TSS2_RC rc = Tss2_TctiLdr_Initialize(tcti_name.c_str(), &tcti);
    if (rc != TSS2_RC_SUCCESS)
        return fail(ErrorCode::kUnavailable, "hardware TPM: no TPM at '{}': {}", tcti_name, Tss2_RC_Decode(rc));
    ESYS_CONTEXT *context = nullptr;
    rc = Esys_Initialize(&context, tcti, nullptr);
    if (rc != TSS2_RC_SUCCESS) {
        Tss2_TctiLdr_Finalize(&tcti);
        return tpm_failure(rc, "Esys_Initialize");
    }
    return Esys(context);
}

}  // namespace vtpm
