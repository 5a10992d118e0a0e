// SPDX-License-Identifier: Apache-2.0
// The inventory: groups, vTPMs and their sealed states. Knows no key. kStoreFailed: nothing of the call is durable;
// later calls may succeed. kRefused: the database is damaged or not ours.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "manager/store/database.hpp"
#include "manager/store/directory.hpp"
#include "manager/store/records.hpp"

namespace vtpm {

class Store {
public:
    // The directory exists. A first start creates the database; one that is gone, damaged or newer is kRefused.
    static Result<Store> open(const std::string &directory_path, const char *vfs = nullptr);

    [[nodiscard]] const std::string &id() const { return directory_.store_id(); }
    [[nodiscard]] std::string path() const { return directory_.database(); }

    // A copy of the database beside it, to be taken away by who asked for it; `between` as Database::copy_to() has it.
    // Those that nobody took are gone with the next start.
    Result<std::string> back_up(const std::function<void()> &between);

    // What this store is sealed to. Empty before the first start is complete.
    struct Pin {
        std::string sealing;
        Bytes identity;
    };
    Result<std::optional<Pin>> pin();
    // Completes the first start: the pin and the first group, together.
    Result<> initialise(const Pin &pin, const GroupRecord &group);
    Result<std::vector<GroupRecord>> groups();
    Result<> insert_group(const GroupRecord &group);
    Result<> write_manifest(const ManifestWrite &manifest);
    // Its key as it is sealed now; nothing of the former stays in the files. Its manifest stays.
    Result<> update_group(const GroupRecord &group);
    Result<> set_recovery(const std::string &group, ByteView recovery);
    // It has another key: all of `group` but its name, its manifest and when it was created.
    Result<> rekey_group(const GroupRecord &group);
    // From now on `group` is sealed to another TPM, and so is the store.
    Result<> move_to(const Pin &pin, const GroupRecord &group);
    // kInUse while it has vTPMs. Its policies go along.
    Result<> delete_group(const std::string &name);
    // All of them, with keys and states.
    Result<> delete_vtpms_of(const std::string &group);

    Result<std::vector<PolicyRecord>> policies();
    // One that is there already is left as it is.
    Result<> insert_policy(const PolicyRecord &policy);
    // kNotFound: there is none.
    Result<> delete_policy(const std::string &id);

    Result<std::vector<PolicyRecord>> launch_approvals();
    Result<std::int64_t> count_launch_approvals(const std::string &group);
    // VtpmRecord::launch_approver, each once.
    Result<std::vector<Bytes>> launch_approvers_of(const std::string &group);
    // In the place of one of its id, which says the same.
    Result<> insert_launch_approval(const PolicyRecord &approval);
    // kNotFound: there is none.
    Result<> delete_launch_approval(const std::string &id);

    Result<std::vector<AuditRecord>> audit_records();
    // The last one whose number is not above this.
    Result<std::optional<AuditRecord>> last_audit_record(std::int64_t most = std::numeric_limits<std::int64_t>::max());
    Result<> delete_audit_records_to(std::int64_t number);
    Result<bool> has_audit_record(ByteView chain);
    Result<> append_audit_record(const AuditRecord &record);

    // What is called before its commit() becomes durable with it, or not at all.
    Result<Transaction> transaction() { return Transaction::begin(database_); }

    Result<std::optional<VtpmRecord>> find_vtpm(const Uuid &uuid);
    // Rows that can be read, and what the others call their vTPM: one that is damaged hides no other. At most so many
    // at once, in the order of their names, from behind `after` on.
    static constexpr std::int64_t kListedAtOnce = 500;
    struct Listed {
        std::vector<VtpmRecord> vtpms;
        std::vector<std::string> damaged;
        std::string last;  // for the next call, as it lies in the store; empty: there are no more
    };
    Result<Listed> vtpms(std::string_view after = {});
    Result<std::int64_t> count_vtpms(const std::string &group);
    Result<std::vector<VtpmRecord>> vtpms_of(const std::string &group);
    // One after the other: all of them at once would be large.
    Result<> each_vtpm_of(const std::string &group, const std::function<Result<>(const VtpmRecord &)> &take);
    // From here on what changes rows takes the manifests along, in the same transaction: Inventory makes them.
    // kRefused: it is not new, it has a state.
    Result<> insert_vtpm(const VtpmRecord &vtpm, const ManifestWrite &manifest);
    Result<> set_ca(const CaRecord &ca, const ManifestWrite &manifest);
    // What each of them has in `endorsement`.
    Result<> set_endorsements(std::span<const VtpmRecord> vtpms, const ManifestWrite &manifest);
    // What `vtpm` asks of launches.
    Result<> set_launch(const VtpmRecord &vtpm, const ManifestWrite &manifest);
    // It has another key, and the same states under that: a part of what rekeys its group.
    Result<> rekey_vtpm(const VtpmRecord &vtpm);
    Result<> replace_envelope(const Uuid &uuid, StateKind kind, ByteView envelope);
    // With its key and states; none of it stays in the files.
    Result<> delete_vtpm(const Uuid &uuid, const ManifestWrite &manifest);

    Result<std::optional<StateRecord>> find_state(const Uuid &uuid, StateKind kind);
    // The volatile state is used once.
    Result<> delete_volatile_state(const Uuid &uuid, const ManifestWrite &manifest);
    // Of a vTPM that the inventory has not. kNotFound: there are none.
    Result<> delete_orphaned_states(const Uuid &uuid);
    // All of them in one transaction, durable when this returns.
    Result<> write_states(std::span<const StateWrite *const> writes, std::span<const ManifestWrite> manifests);

private:
    Store(StateDirectory directory, Database database)
        : directory_(std::move(directory)), database_(std::move(database)) {}
    Result<> adopt_id();
    Result<> require_stateless(const Uuid &uuid);

    StateDirectory directory_;
    Database database_;
};

}  // namespace vtpm
