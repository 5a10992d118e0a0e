// SPDX-License-Identifier: Apache-2.0
// What keeps the group keys while the manager does not run: the hardware TPM, or, where the administrator chose so, a
// file. Held open for as long as keys are sealed and unsealed, no longer.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "manager/crypto/cipher.hpp"
#include "manager/groups/key_policy.hpp"
#include "manager/tpm/endorsement_key.hpp"
#include "manager/tpm/evidence.hpp"
#include "manager/tpm/sealed_object.hpp"
#include "manager/tpm/tpm_key.hpp"

namespace vtpm {

class Sealer {
public:
    Sealer() = default;
    Sealer(const Sealer &) = delete;
    Sealer &operator=(const Sealer &) = delete;
    virtual ~Sealer() = default;

    // What a store is pinned to: the same for the same TPM (or file), different for any other.
    [[nodiscard]] virtual ByteView identity() const = 0;
    // The configuration's word for it: "tpm" or "file".
    [[nodiscard]] virtual std::string_view sealing() const = 0;
    // One line for `xen-vtpm status`.
    [[nodiscard]] virtual std::string description() const = 0;
    // To be unsealed under `policy`: until advance() is next called for the group, or from then on. kRefused if that
    // cannot be.
    enum class Opens { kUntilAdvance, kFromAdvance };
    virtual Result<SealedObject> seal(const Key &key, const KeyPolicy &policy, Opens opens) = 0;
    // Whatever was sealed for this group before `object`, which is the last one, opens nothing any more, wherever a
    // copy of it lies. Does nothing if that is so already. kRefused: `object` itself opens nothing.
    virtual Result<> advance(const SealedObject &object, const KeyPolicy &policy) = 0;
    // Advances to `object` if a crash came before that. `approvals`: the approver's, of which one must be of the
    // present boot. kRefused says what is not as it must be.
    virtual Result<Key> unseal(const SealedObject &object, const KeyPolicy &policy,
                               const std::vector<BootPolicy> &approvals) = 0;
    // kRefused unless one of `approvals` would let `policy` be met in the present boot.
    virtual Result<> require_approved(const KeyPolicy &policy, const std::vector<BootPolicy> &approvals) = 0;
    // What `pcrs` are now. kRefused: there are no such PCRs.
    virtual Result<PcrValues> read(const PcrSelection &pcrs) = 0;

    // At most 32 bytes.
    virtual Result<SecretBytes> random(std::size_t size) = 0;
    // Whether it keeps keys that sign: a certificate that leads to a file would be worth nothing.
    [[nodiscard]] virtual bool has_signing_keys() const = 0;
    // HardwareTpm::create_signing_key(), change_authorization() and sign().
    virtual Result<TpmKey> create_signing_key(const Key &authorization) = 0;
    virtual Result<TpmKey> change_authorization(const TpmKey &key, const Key &former, const Key &next) = 0;
    virtual Result<Bytes> sign(const TpmKey &key, const Key &authorization, ByteView digest) = 0;
    // HardwareTpm::identity(), activate() and attest().
    virtual Result<HostIdentity> host(std::optional<EkTemplate> wanted) = 0;
    virtual Result<SecretBytes> activate(const Credential &credential) = 0;
    virtual Result<HostEvidence> attest(const PcrSelection &pcrs, const TpmKey &ca, const Key &ca_authorization,
                                        ByteView data) = 0;

    // Where a group's epoch (manifest.hpp) and its counter can be kept: an index that is free and not `taken` (0:
    // nowhere), and those that keep an epoch.
    virtual Result<std::uint32_t> free_index(const std::vector<std::uint32_t> &taken) = 0;
    virtual Result<std::vector<std::uint32_t>> used_indices() = 0;
    // The same group's other index, for an epoch under another authorization; the counter is the same. And back.
    [[nodiscard]] virtual std::uint32_t other_index(std::uint32_t index) const = 0;
    // kNotFound: nothing is kept there. kRefused: something else is.
    virtual Result<SecretBytes> read_epoch(std::uint32_t index, const Key &authorization) = 0;
    virtual Result<> write_epoch(std::uint32_t index, const Key &authorization, ByteView epoch) = 0;
    virtual Result<> remove_epoch(std::uint32_t index) = 0;
    // What was ever sealed with it opens nothing any more.
    virtual Result<> remove_counter(std::uint32_t index) = 0;
};

// Opens the sealer that the configuration names. `pinned` is the identity it must have; empty at the first start.
// kRefused: it is another one. kUnavailable: it is away and may come back.
using OpenSealer = std::function<Result<std::unique_ptr<Sealer>>(ByteView pinned)>;

}  // namespace vtpm
