// SPDX-License-Identifier: Apache-2.0
// The storage primary: the key that the hardware TPM makes from its owner seed and a template, the same at each start
// and different in every other TPM. Everything we seal is its child, and its Name is what a store is pinned to.
#pragma once

#include "base/bytes.hpp"
#include "manager/hardware_tpm/esys.hpp"

namespace vtpm {

struct StoragePrimary {
    EsysHandle handle;
    // TPM2B_NAME's content, computed here from the public area that the salt of our sessions is encrypted to. Who sits
    // between us and the TPM can answer with a key of his own, but not with one of this Name.
    Bytes name;
};

// kRefused if the owner hierarchy needs an authorization, or if the TPM made something else than the template.
Result<StoragePrimary> create_storage_primary(ESYS_CONTEXT *context);

}  // namespace vtpm
