// SPDX-License-Identifier: Apache-2.0
// Keys that the hardware TPM makes from a seed and a template, the same at each start and different in every other TPM.
// Everything we seal is a child of one, the storage primary, and its Name is what a store is pinned to.
#pragma once

#include "base/bytes.hpp"
#include "manager/hardware_tpm/esys.hpp"

namespace vtpm {

enum class Hierarchy { kOwner, kEndorsement };

// The authorization values of the hierarchies, where their administrator gave them some; empty otherwise.
struct HierarchyPasswords {
    SecretBytes owner{};
    SecretBytes endorsement{};
};
// For all that `context` does from now on. kInvalid: one is too long.
Result<> set_passwords(ESYS_CONTEXT *context, const HierarchyPasswords &passwords);

struct Primary {
    EsysHandle handle;
    TPMT_PUBLIC area;
};

// That the hierarchy has another authorization than set_passwords() said, and what to do.
tl::unexpected<Error> unauthorized(Hierarchy hierarchy);

// kRefused if the hierarchy has another authorization than set_passwords() said.
Result<Primary> create_primary(ESYS_CONTEXT *context, Hierarchy hierarchy, const TPMT_PUBLIC &in);

struct StoragePrimary {
    EsysHandle handle;
    // TPM2B_NAME's content, computed here from the public area that the salt of our sessions is encrypted to. Who sits
    // between us and the TPM can answer with a key of his own, but not with one of this Name.
    Bytes name;
};

// What the TPM gave us of its storage primary, encrypted by itself (TCG Part 1, 30.3): to load that takes a tenth of
// the time of making the key. Void once the TPM was reset or cleared.
struct SavedPrimary {
    EsysPtr<TPMS_CONTEXT> context{};  // null: nothing was saved
    Bytes name{};
};

// Of `saved`, if the TPM takes that; else made, and saved there. kRefused as above, or if the TPM made something else
// than the template.
Result<StoragePrimary> storage_primary(ESYS_CONTEXT *context, SavedPrimary &saved);

}  // namespace vtpm
