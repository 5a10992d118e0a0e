// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/key_rotation.hpp"

#include "base/log.hpp"
#include "manager/groups/audit.hpp"
#include "manager/vtpm/stored_state.hpp"

namespace vtpm {
namespace {

// Under `next`; `vtpm` has the tags. A vTPM that never ran has none.
Result<std::map<StateKind, Bytes>> reseal_states(Store &store, VtpmRecord &vtpm, const Key &present, const Key &next) {
    const VtpmIdentity identity{vtpm.uuid, vtpm.version, vtpm.group};
    std::map<StateKind, Bytes> resealed;
    for (const StateKind kind : {StateKind::kPermanent, StateKind::kVolatile}) {
        // A row that nobody vouches for keeps no vTPM from its new key: it would never be loaded.
        if (kind == StateKind::kVolatile && vtpm.volatile_tag.empty()) continue;
        const auto state = open_stored_state(store, vtpm, present, kind);
        if (!state && state.error().code == ErrorCode::kNotFound) continue;
        if (!state) return tl::make_unexpected(state.error());
        VTPM_ASSIGN(resealed[kind], seal_state(next, identity, kind, vtpm.sequence_of(kind), state->view()));
    }
    for (const auto &[kind, envelope] : resealed)
        (kind == StateKind::kPermanent ? vtpm.tag : vtpm.volatile_tag) = envelope_tag(envelope);
    return resealed;
}

}  // namespace

// What does not open now is not made to open by this, nor lost: a vTPM whose state was put back keeps its key, by which
// the right one opens.
Result<KeyRotation::Rotated> KeyRotation::rotated_one(const Uuid &uuid, const OpenGroup &former,
                                                      const OpenGroup &next) {
    VTPM_ASSIGN(auto row, store_.find_vtpm(uuid));
    if (!row) return fail(ErrorCode::kRefused, "store: the row of vTPM {} is gone: it is damaged", uuid.to_string());
    VTPM_TRY(former.manifest.require_present(*row));
    Rotated vtpm{std::move(*row), {}, {}};
    VTPM_ASSIGN(Key present, key_of(former.key, vtpm.row));
    VTPM_ASSIGN(vtpm.key, random_key());
    auto states = reseal_states(store_, vtpm.row, present, vtpm.key);
    kept_.erase(uuid);
    if (states) {
        vtpm.envelopes = std::move(*states);
    } else if (states.error().code == ErrorCode::kRefused) {
        vtpm.key = std::move(present);
        vtpm.opened = false;
        kept_[uuid] = states.error().text;
    } else {
        return tl::make_unexpected(states.error());
    }
    VTPM_TRY(wrap_key_of(vtpm.row, next.key, vtpm.key));
    return vtpm;
}

bool KeyRotation::is_staged(const Uuid &uuid, const Manifest::Sum &row) const {
    const auto staged = staged_.find(uuid);
    return staged != staged_.end() && staged->second == row;
}

// From the last one that was looked at; at the end from the first again, if much changed since then.
Result<bool> KeyRotation::stage(const OpenGroup &former, OpenGroup &next) {
    const auto &present = former.manifest.digests();
    std::map<Uuid, Manifest::Sum> batch;
    auto at = present.upper_bound(last_);
    for (; at != present.end() && batch.size() < kAtOnce; ++at)
        if (!is_staged(at->first, at->second) && find_channel_(at->first) == nullptr) batch.insert(*at);
    Manifest::Draft rows(next.manifest);
    VTPM_TRY(store_.commit([&](Change &change) -> Result<> {
        for (const auto &[uuid, row] : batch) {
            VTPM_ASSIGN(Rotated vtpm, rotated_one(uuid, former, next));
            if (const auto put = rows.put(vtpm.row); !put) return put;
            change.add(StageVtpm{std::move(vtpm.row), std::move(vtpm.envelopes)});
        }
        return {};
    }));
    next.manifest.adopt(std::move(rows));
    for (const auto &[uuid, row] : batch) staged_.insert_or_assign(uuid, row);
    since_begin_ += batch.size();
    const bool at_end = at == present.end();
    last_ = at_end ? Uuid() : std::prev(at)->first;
    return !at_end || std::exchange(since_begin_, 0) > kAtOnce;
}

// Who can put a vTPM's state back has it under the former key: that is for the administrator to know.
Result<> KeyRotation::rotate(const OpenGroup &former, const OpenGroup &next, Change &change, Manifest::Draft &rows) {
    const auto &present = former.manifest.digests();
    auto staged = staged_.begin();  // beside `uuid`: both are in the same order, and there are many
    for (const auto &[uuid, row] : present) {
        for (; staged != staged_.end() && staged->first < uuid; ++staged) VTPM_TRY(rows.remove(staged->first));
        const bool same = staged != staged_.end() && staged->first == uuid && (staged++)->second == row;
        StateChannel *const channel = find_channel_(uuid);
        if (channel == nullptr && same) continue;
        VTPM_ASSIGN(Rotated vtpm, rotated_one(uuid, former, next));
        VTPM_TRY(rows.put(vtpm.row));
        change.add(UpdateVtpm{vtpm.row});
        for (auto &[kind, envelope] : vtpm.envelopes) change.add(ReplaceEnvelope{uuid, kind, std::move(envelope)});
        if (channel == nullptr || !vtpm.opened) continue;
        VTPM_ASSIGN(Bytes pending, channel->pending_under(vtpm.key));
        running_.push_back({std::move(vtpm.row), std::move(vtpm.key), std::move(pending)});
    }
    for (; staged != staged_.end(); ++staged) VTPM_TRY(rows.remove(staged->first));
    for (const auto &[uuid, why] : kept_) {
        if (!present.contains(uuid)) continue;
        log::error("vTPM {} keeps its own key, since {}", uuid.to_string(), why);
        VTPM_TRY(Audit(store_).record(change, "vtpm-not-rekeyed", uuid.to_string(), "its state does not open"));
    }
    change.add(AdoptStaged{next.name});
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
