// SPDX-License-Identifier: Apache-2.0
// The machine's TPM 2.0, for as long as the object lives: its connection, its storage primary, and sealing under it.
#pragma once

#include <string>

#include "manager/hardware_tpm/esys.hpp"
#include "manager/hardware_tpm/pcr_selection.hpp"
#include "manager/hardware_tpm/pcr_values.hpp"
#include "manager/hardware_tpm/sealed_object.hpp"
#include "manager/hardware_tpm/storage_primary.hpp"

namespace vtpm {

class HardwareTpm {
public:
    // `pinned`: the Name its storage primary must have (kRefused otherwise); empty: the first TPM is the right one.
    static Result<HardwareTpm> open(const std::string &tcti, ByteView pinned);

    [[nodiscard]] ByteView storage_key_name() const { return primary_.name; }
    // Vendor and firmware, as the TPM names them.
    [[nodiscard]] const std::string &description() const { return description_; }

    // `secret`, to be had back from this TPM only, and only while `pcrs` are as they are now. At most 128 bytes.
    // kRefused if the TPM has not all of them.
    Result<SealedObject> seal(ByteView secret, const PcrSelection &pcrs);
    // kRefused if the PCRs differ (the error names them), or the object is not of this TPM.
    Result<SecretBytes> unseal(const SealedObject &object, const PcrSelection &pcrs);

private:
    HardwareTpm(Esys esys, StoragePrimary primary, std::string description)
        : esys_(std::move(esys)), primary_(std::move(primary)), description_(std::move(description)) {}
    Result<TPM2B_DIGEST> policy_digest(const PcrSelection &pcrs, const PcrValues &values);
    Result<PcrValues> read(const PcrSelection &pcrs);
    Result<> require_allocated(const PcrSelection &pcrs);
    Error other_boot(const PcrSelection &pcrs, const PcrValues &were);
    Result<EsysHandle> load(const SealedObject &object);

    Esys esys_;
    StoragePrimary primary_;
    std::string description_;
};

}  // namespace vtpm
