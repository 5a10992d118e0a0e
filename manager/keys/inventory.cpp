// SPDX-License-Identifier: Apache-2.0
#include "manager/keys/inventory.hpp"

#include <map>

#include "manager/keys/audit.hpp"

namespace vtpm {

Result<> Inventory::insert(const VtpmRecord &vtpm) {
    VTPM_ASSIGN(Manifest * manifest, keys_.manifest(vtpm.group));
    Manifest::Change change(*manifest);
    VTPM_TRY(change.put(vtpm));
    VTPM_ASSIGN(Bytes sealed, change.seal());
    VTPM_ASSIGN(Transaction transaction, store_.transaction());
    VTPM_TRY(Audit(store_).record("vtpm-created", vtpm.uuid.to_string(),
                                  fmt::format("TPM {}, group {}", to_string(vtpm.version), vtpm.group)));
    VTPM_TRY(store_.insert_vtpm(vtpm, {vtpm.group, std::move(sealed)}));
    VTPM_TRY(transaction.commit());
    manifest->adopt(std::move(change));
    return {};
}

Result<> Inventory::remove(const VtpmRecord &vtpm) {
    VTPM_ASSIGN(Manifest * manifest, keys_.manifest(vtpm.group));
    Manifest::Change change(*manifest);
    VTPM_TRY(change.remove(vtpm.uuid));
    VTPM_ASSIGN(Bytes sealed, change.seal());
    VTPM_ASSIGN(Transaction transaction, store_.transaction());
    VTPM_TRY(Audit(store_).record("vtpm-destroyed", vtpm.uuid.to_string(), "group " + vtpm.group));
    VTPM_TRY(store_.delete_vtpm(vtpm.uuid, {vtpm.group, std::move(sealed)}));
    VTPM_TRY(transaction.commit());
    store_.wipe_log();
    manifest->adopt(std::move(change));
    return {};
}

Result<> Inventory::end_volatile_state(const VtpmRecord &vtpm) {
    VTPM_ASSIGN(Manifest * manifest, keys_.manifest(vtpm.group));
    Manifest::Change change(*manifest);
    VTPM_TRY(change.end_volatile_state(vtpm.uuid));
    VTPM_ASSIGN(Bytes sealed, change.seal());
    VTPM_TRY(store_.delete_volatile_state(vtpm.uuid, {vtpm.group, std::move(sealed)}));
    manifest->adopt(std::move(change));
    return {};
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
