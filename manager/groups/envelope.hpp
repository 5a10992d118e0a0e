// SPDX-License-Identifier: Apache-2.0
// What the store holds of a vTPM: its states and its key, each in an envelope whose header says whose it is and is
// authenticated with the content. Layout: docs/keys.md.
#pragma once

#include <cstdint>
#include <string_view>

#include "manager/crypto/cipher.hpp"
#include "shared-protocol/messages.hpp"

namespace vtpm {

// A vTPM as its keys know it.
struct VtpmIdentity {
    Uuid uuid;
    TpmVersion version = TpmVersion::k20;
    std::string_view group;
};

// One state of one vTPM. `sequence` counts its stores: an older envelope put back does not open.
Result<Bytes> seal_state(const Key &vtpm_key, const VtpmIdentity &vtpm, StateKind kind, std::uint64_t sequence,
                         ByteView state);
// kRefused with the cause unless `envelope` is exactly that state of that vTPM.
Result<SecretBytes> open_state(const Key &vtpm_key, const VtpmIdentity &vtpm, StateKind kind, std::uint64_t sequence,
                               ByteView envelope);

// A vTPM's key under a key derived from its group's. `binding`: what its launches are bound to, 32 bytes, or nothing.
// Whoever writes its row, the key does not open under another one.
Result<Bytes> wrap_key(const Key &group_key, const VtpmIdentity &vtpm, ByteView binding, const Key &vtpm_key);
Result<Key> unwrap_key(const Key &group_key, const VtpmIdentity &vtpm, ByteView binding, ByteView wrapped);

}  // namespace vtpm
