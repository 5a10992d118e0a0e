// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/inventory.hpp"

#include <map>

#include "manager/groups/audit.hpp"

namespace vtpm {
namespace {

// One change of one group: `edit` puts it into the manifest, `write` into the store, together with that.
template <typename Edit, typename Write>
Result<> change(GroupKeys &keys, const std::string &group, Edit edit, Write write) {
    VTPM_ASSIGN(Manifest * manifest, keys.manifest(group));
    Manifest::Change change(*manifest);
    VTPM_TRY(edit(change));
    VTPM_ASSIGN(Bytes sealed, change.seal());
    VTPM_TRY(write(ManifestWrite{group, std::move(sealed)}));
    manifest->adopt(std::move(change));
    return {};
}

}  // namespace

Result<> Inventory::insert(const VtpmRecord &vtpm) {
    const auto write = [&](const ManifestWrite &manifest) -> Result<> {
        VTPM_ASSIGN(Transaction transaction, store_.transaction());
        VTPM_TRY(Audit(store_).record("vtpm-created", vtpm.uuid.to_string(),
                                      fmt::format("TPM {}, group {}", to_string(vtpm.version), vtpm.group)));
        VTPM_TRY(store_.insert_vtpm(vtpm, manifest));
        return transaction.commit();
    };
    return change(
        keys_, vtpm.group, [&](Manifest::Change &rows) { return rows.put(vtpm); }, write);
}

Result<> Inventory::remove(const VtpmRecord &vtpm) {
    const auto write = [&](const ManifestWrite &manifest) -> Result<> {
        VTPM_ASSIGN(Transaction transaction, store_.transaction());
        VTPM_TRY(Audit(store_).record("vtpm-destroyed", vtpm.uuid.to_string(), "group " + vtpm.group));
        VTPM_TRY(store_.delete_vtpm(vtpm.uuid, manifest));
        return transaction.commit();
    };
    return change(
        keys_, vtpm.group, [&](Manifest::Change &rows) { return rows.remove(vtpm.uuid); }, write);
}

Result<> Inventory::restore(const VtpmRecord &vtpm, const StateWrite &state, const std::optional<VtpmRecord> &former,
                            std::string_view origin) {
    const auto edit = [&](Manifest::Change &rows) -> Result<> {
        if (former) VTPM_TRY(rows.remove(former->uuid));
        VTPM_TRY(rows.put(vtpm));
        return rows.put(state);
    };
    const auto write = [&](const ManifestWrite &manifest) -> Result<> {
        const StateWrite *const states[] = {&state};
        VTPM_ASSIGN(Transaction transaction, store_.transaction());
        VTPM_TRY(Audit(store_).record("vtpm-imported", vtpm.uuid.to_string(), origin));
        if (former) VTPM_TRY(store_.delete_vtpm(former->uuid, manifest));
        VTPM_TRY(store_.insert_vtpm(vtpm, manifest));
        VTPM_TRY(store_.write_states(states, {&manifest, 1}));
        return transaction.commit();
    };
    return change(keys_, vtpm.group, edit, write);
}

Result<> Inventory::set_ca(const std::string &group, const CaRecord &ca, std::string_view event) {
    const auto write = [&](const ManifestWrite &manifest) -> Result<> {
        VTPM_ASSIGN(Transaction transaction, store_.transaction());
        VTPM_TRY(Audit(store_).record(event, group));
        VTPM_TRY(store_.set_ca(ca, manifest));
        return transaction.commit();
    };
    return change(
        keys_, group, [&](Manifest::Change &rows) { return rows.put(ca); }, write);
}

Result<> Inventory::verify(const VtpmRecord &vtpm) const {
    VTPM_ASSIGN(Manifest *const manifest, keys_.manifest(vtpm.group));
    return manifest->verify(vtpm);
}

Result<> Inventory::order_reissue(const std::string &group, std::span<const VtpmRecord> vtpms, std::string_view event,
                                  std::string_view subject, std::string_view detail) {
    const auto edit = [&](Manifest::Change &rows) -> Result<> {
        for (const VtpmRecord &vtpm : vtpms) VTPM_TRY(rows.put(vtpm));
        return {};
    };
    const auto write = [&](const ManifestWrite &manifest) -> Result<> {
        VTPM_ASSIGN(Transaction transaction, store_.transaction());
        VTPM_TRY(Audit(store_).record(event, subject, detail));
        VTPM_TRY(store_.set_endorsements(vtpms, manifest));
        return transaction.commit();
    };
    return change(keys_, group, edit, write);
}

Result<Terms> Inventory::terms(const std::string &group) const {
    VTPM_ASSIGN(const Manifest *const manifest, keys_.manifest(group));
    return manifest->terms();
}

Result<> Inventory::set_launch(const VtpmRecord &vtpm, std::string_view detail) {
    const auto write = [&](const ManifestWrite &manifest) -> Result<> {
        VTPM_ASSIGN(Transaction transaction, store_.transaction());
        VTPM_TRY(Audit(store_).record("launch-policy-set", vtpm.uuid.to_string(), detail));
        VTPM_TRY(store_.set_launch(vtpm, manifest));
        return transaction.commit();
    };
    return change(
        keys_, vtpm.group, [&](Manifest::Change &rows) { return rows.put(vtpm); }, write);
}

Result<> Inventory::end_volatile_state(const VtpmRecord &vtpm) {
    return change(
        keys_, vtpm.group, [&](Manifest::Change &rows) { return rows.end_volatile_state(vtpm.uuid); },
        [&](const ManifestWrite &manifest) { return store_.delete_volatile_state(vtpm.uuid, manifest); });
}

Result<> Inventory::write(std::span<const StateWrite *const> writes) {
    std::map<std::string, std::pair<Manifest *, Manifest::Change>> changes;
    for (const StateWrite *write : writes) {
        auto found = changes.find(write->group);
        if (found == changes.end()) {
            VTPM_ASSIGN(Manifest * manifest, keys_.manifest(write->group));
            found = changes.emplace(write->group, std::pair(manifest, Manifest::Change(*manifest))).first;
        }
        VTPM_TRY(found->second.second.put(*write));
    }
    std::vector<ManifestWrite> manifests;
    for (const auto &[group, change] : changes) {
        VTPM_ASSIGN(Bytes sealed, change.second.seal());
        manifests.push_back({group, std::move(sealed)});
    }
    VTPM_TRY(store_.write_states(writes, manifests));
    for (auto &[group, change] : changes) change.first->adopt(std::move(change.second));
    return {};
}

}  // namespace vtpm
