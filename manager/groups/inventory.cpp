// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/inventory.hpp"

#include "manager/groups/audit.hpp"
#include "manager/groups/drafts.hpp"

namespace vtpm {

// One change of one group.
template <typename Edit>
Result<> Inventory::change(const std::string &group, Edit edit) {
    return commit(store_, [&](Change &change, Drafts &drafts) -> Result<> {
        VTPM_ASSIGN(Manifest *const manifest, keys_.manifest(group));
        return edit(change, drafts.of(group, *manifest));
    });
}

Result<> Inventory::insert(const VtpmRecord &vtpm) {
    return change(vtpm.group, [&](Change &change, Manifest::Draft &rows) -> Result<> {
        VTPM_TRY(Audit(store_).record(change, "vtpm-created", vtpm.uuid.to_string(),
                                      fmt::format("TPM {}, group {}", to_string(vtpm.version), vtpm.group)));
        change.add(InsertVtpm{vtpm});
        return rows.put(vtpm);
    });
}

Result<> Inventory::remove(const VtpmRecord &vtpm) {
    return change(vtpm.group, [&](Change &change, Manifest::Draft &rows) -> Result<> {
        VTPM_TRY(Audit(store_).record(change, "vtpm-destroyed", vtpm.uuid.to_string(), "group " + vtpm.group));
        change.add(DeleteVtpm{vtpm.uuid});
        return rows.remove(vtpm.uuid);
    });
}

Result<> Inventory::restore(const VtpmRecord &vtpm, const StateWrite &state, const std::optional<VtpmRecord> &former,
                            std::string_view origin) {
    return change(vtpm.group, [&](Change &change, Manifest::Draft &rows) -> Result<> {
        VTPM_TRY(Audit(store_).record(change, "vtpm-imported", vtpm.uuid.to_string(), origin));
        if (former) {
            change.add(DeleteVtpm{former->uuid});
            VTPM_TRY(rows.remove(former->uuid));
        }
        change.add(InsertVtpm{vtpm});
        change.add(std::make_shared<const StateWrite>(state));
        VTPM_TRY(rows.put(vtpm));
        return rows.put(state);
    });
}

Result<> Inventory::set_ca(const std::string &group, const CaRecord &ca, std::string_view event) {
    return change(group, [&](Change &change, Manifest::Draft &rows) -> Result<> {
        VTPM_TRY(Audit(store_).record(change, event, group));
        change.add(SetCa{group, ca});
        return rows.put(ca);
    });
}

Result<> Inventory::verify(const VtpmRecord &vtpm) const {
    VTPM_ASSIGN(Manifest *const manifest, keys_.manifest(vtpm.group));
    return manifest->verify(vtpm);
}

Result<> Inventory::update(const std::string &group, std::span<const VtpmRecord> vtpms, std::string_view event,
                           std::string_view subject, std::string_view detail) {
    return change(group, [&](Change &change, Manifest::Draft &rows) -> Result<> {
        VTPM_TRY(Audit(store_).record(change, event, subject, detail));
        for (const VtpmRecord &vtpm : vtpms) {
            change.add(UpdateVtpm{vtpm});
            VTPM_TRY(rows.put(vtpm));
        }
        return {};
    });
}

Result<Terms> Inventory::terms(const std::string &group) const {
    VTPM_ASSIGN(const Manifest *const manifest, keys_.manifest(group));
    return manifest->terms();
}

Result<> Inventory::end_volatile_state(const VtpmRecord &vtpm) {
    return change(vtpm.group, [&](Change &change, Manifest::Draft &rows) {
        change.add(EndVolatileState{vtpm.uuid});
        return rows.end_volatile_state(vtpm.uuid);
    });
}

void Inventory::write(std::vector<std::shared_ptr<const StateWrite>> states, const Store::Done &done) {
    const auto edits = [this, states = std::move(states)](Change &change, Drafts &drafts) -> Result<> {
        for (const auto &state : states) {
            VTPM_ASSIGN(Manifest *const manifest, keys_.manifest(state->group));
            VTPM_TRY(drafts.of(state->group, *manifest).put(*state));
            change.add(state);
        }
        return {};
    };
    commit(store_, edits, done);
}

}  // namespace vtpm
