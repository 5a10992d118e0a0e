// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/stored_state.hpp"

#include "manager/groups/manifest.hpp"

namespace vtpm {
namespace {

VtpmIdentity identity_of(const VtpmRecord &vtpm) { return {vtpm.uuid, vtpm.version, vtpm.group}; }

// To whom, and by what; nothing, if it asks for less than approved launches.
Bytes binding_of(const VtpmRecord &vtpm) {
    if (vtpm.launch != LaunchPolicy::kRequireApproved) return {};
    Bytes both = vtpm.launch_approver;
    both.insert(both.end(), vtpm.launch_binding.begin(), vtpm.launch_binding.end());
    return digest_of(both);
}

// A permanent state is there from the first store on; a volatile one comes and goes, and its tag with it.
tl::unexpected<Error> absent(const VtpmRecord &vtpm, StateKind kind) {
    if (kind == StateKind::kVolatile ? vtpm.volatile_tag.empty() : vtpm.sequence == 0)
        return fail(ErrorCode::kNotFound, "vTPM {}: no such state", vtpm.uuid.to_string());
    return fail(ErrorCode::kRefused, "the state of vTPM {} is missing: it was stored {} times; restore the store",
                vtpm.uuid.to_string(), vtpm.sequence_of(kind));
}

}  // namespace

Result<Key> key_of(const Key &group_key, const VtpmRecord &vtpm) {
    return unwrap_key(group_key, identity_of(vtpm), binding_of(vtpm), vtpm.wrapped_key);
}

Result<> wrap_key_of(VtpmRecord &vtpm, const Key &group_key, const Key &key) {
    VTPM_ASSIGN(vtpm.wrapped_key, wrap_key(group_key, identity_of(vtpm), binding_of(vtpm), key));
    return {};
}

Result<SecretBytes> open_stored_state(Store &store, const VtpmRecord &vtpm, const Key &key, StateKind kind) {
    VTPM_ASSIGN(const auto state, store.find_state(vtpm.uuid, kind));
    if (!state) return absent(vtpm, kind);
    if (state->sequence != vtpm.sequence_of(kind))
        return fail(ErrorCode::kRefused,
                    "the state of vTPM {} has sequence {}, the inventory says {}: one was put back",
                    vtpm.uuid.to_string(), state->sequence, vtpm.sequence_of(kind));
    if (envelope_tag(state->envelope) != vtpm.tag_of(kind))
        return fail(ErrorCode::kRefused, "the state of vTPM {} is not the one that was stored last",
                    vtpm.uuid.to_string());
    return open_state(key, identity_of(vtpm), kind, state->sequence, state->envelope);
}

}  // namespace vtpm
