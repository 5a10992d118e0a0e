// SPDX-License-Identifier: Apache-2.0
// What keeps the group keys while the manager does not run: the hardware TPM, or, where the administrator chose so, a
// file. Held open for as long as keys are sealed and unsealed, no longer.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "manager/hardware_tpm/pcr_selection.hpp"
#include "manager/hardware_tpm/sealed_object.hpp"
#include "manager/keys/cipher.hpp"

namespace vtpm {

struct SealedKey {
    std::string policy;  // the PCRs that it is sealed to, such as "sha256:7"; empty: this TPM only
    SealedObject object;
};

class Sealer {
public:
    Sealer() = default;
    Sealer(const Sealer &) = delete;
    Sealer &operator=(const Sealer &) = delete;
    virtual ~Sealer() = default;

    // What a store is pinned to: the same for the same TPM (or file), different for any other.
    [[nodiscard]] virtual ByteView identity() const = 0;
    // One line for `xen-vtpm status`.
    [[nodiscard]] virtual std::string description() const = 0;
    // To be unsealed while `pcrs` are as they are now.
    virtual Result<SealedKey> seal(const Key &key, const PcrSelection &pcrs) = 0;
    virtual Result<Key> unseal(const SealedKey &sealed) = 0;
};

// Opens the sealer that the configuration names. `pinned` is the identity it must have; empty at the first start.
// kRefused: it is another one. kUnavailable: it is away and may come back.
using OpenSealer = std::function<Result<std::unique_ptr<Sealer>>(ByteView pinned)>;

}  // namespace vtpm
