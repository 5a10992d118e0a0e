// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/key_rotation.hpp"

#include "base/log.hpp"
#include "manager/groups/audit.hpp"
#include "manager/vtpm/stored_state.hpp"

namespace vtpm {
namespace {

struct Resealed {
    StateKind kind;
    Bytes envelope;
};

// Under `next`; `vtpm` has the tags. A vTPM that never ran has none.
Result<std::vector<Resealed>> reseal_states(Store &store, VtpmRecord &vtpm, const Key &present, const Key &next) {
    const VtpmIdentity identity{vtpm.uuid, vtpm.version, vtpm.group};
    std::vector<Resealed> resealed;
    for (const StateKind kind : {StateKind::kPermanent, StateKind::kVolatile}) {
        // A row that nobody vouches for keeps no vTPM from its new key: it would never be loaded.
        if (kind == StateKind::kVolatile && vtpm.volatile_tag.empty()) continue;
        const auto state = open_stored_state(store, vtpm, present, kind);
        if (!state && state.error().code == ErrorCode::kNotFound) continue;
        if (!state) return tl::make_unexpected(state.error());
        VTPM_ASSIGN(Bytes envelope, seal_state(next, identity, kind, vtpm.sequence_of(kind), state->view()));
        resealed.push_back({kind, std::move(envelope)});
    }
    for (const auto &[kind, envelope] : resealed)
        (kind == StateKind::kPermanent ? vtpm.tag : vtpm.volatile_tag) = envelope_tag(envelope);
    return resealed;
}

}  // namespace

Result<> KeyRotation::rotate(const Key &former, const Key &next, Change &change, Manifest::Draft &rows) {
    VTPM_ASSIGN(const auto vtpms, store_.vtpms_of(group_));
    for (const VtpmRecord &vtpm : vtpms) VTPM_TRY(rotate(vtpm, former, next, change, rows));
    return {};
}

// Who can put its state back has it under the former key: that is for the administrator to know.
Result<> KeyRotation::tell_of(const Uuid &vtpm, const Error &why, Change &change) {
    log::error("vTPM {} keeps its own key, since {}", vtpm.to_string(), why.text);
    return Audit(store_).record(change, "vtpm-not-rekeyed", vtpm.to_string(), "its state does not open");
}

// What does not open now is not made to open by this, nor lost: a vTPM whose state was put back keeps its key, by which
// the right one opens.
Result<> KeyRotation::rotate(VtpmRecord vtpm, const Key &former, const Key &next, Change &change,
                             Manifest::Draft &rows) {
    VTPM_TRY(inventory_.verify(vtpm));
    VTPM_ASSIGN(Key present, key_of(former, vtpm));
    VTPM_ASSIGN(Key another, random_key());
    auto states = reseal_states(store_, vtpm, present, another);
    if (!states && states.error().code != ErrorCode::kRefused) return tl::make_unexpected(states.error());
    if (!states) VTPM_TRY(tell_of(vtpm.uuid, states.error(), change));
    const Key &key = states ? another : present;
    VTPM_TRY(wrap_key_of(vtpm, next, key));
    change.add(UpdateVtpm{vtpm});
    VTPM_TRY(rows.put(vtpm));
    if (!states) return {};
    for (auto &[kind, envelope] : *states) change.add(ReplaceEnvelope{vtpm.uuid, kind, std::move(envelope)});
    StateChannel *const channel = find_channel_(vtpm.uuid);
    if (channel == nullptr) return {};
    VTPM_ASSIGN(Bytes pending, channel->pending_under(another));
    running_.push_back({std::move(vtpm), std::move(another), std::move(pending)});
    return {};
}

void KeyRotation::rotated(bool another_ca) {
    for (Running &vtpm : running_) {
        StateChannel &channel = *find_channel_(vtpm.row.uuid);
        channel.change_key(std::move(vtpm.key), vtpm.row, std::move(vtpm.pending));
        if (another_ca) channel.issue_again();
    }
    running_.clear();
}

}  // namespace vtpm
