// SPDX-License-Identifier: Apache-2.0
#include "manager/store/store.hpp"

#include <unistd.h>

#include <filesystem>

#include "manager/store/schema.hpp"

namespace vtpm {
namespace {

constexpr std::string_view kVtpmColumns =
    "SELECT uuid, tpm_version, group_name, wrapped_key, sequence, volatile_sequence, tag, volatile_tag, created, "
    "endorsement, pcr_banks, algorithms, launch, event_log_digest, launch_approver, launch_binding FROM vtpms ";

Result<VtpmRecord> vtpm_of(const Statement &row) {
    const auto uuid = Uuid::parse(row.text(0));
    const auto version = parse_tpm_version(row.text(1));
    const auto pcr_banks = PcrBanks::parse(row.text(10));
    const auto launch = parse_launch_policy(row.text(12));
    // In capitals it would be found under no name.
    if (!uuid || !version || !pcr_banks || !launch || uuid->to_string() != row.text(0))
        return fail(ErrorCode::kRefused, "store: a damaged row of the inventory: {}", row.text(0));
    return VtpmRecord{*uuid,
                      *version,
                      row.text(2),
                      row.blob(3),
                      static_cast<std::uint64_t>(row.integer(4)),
                      static_cast<std::uint64_t>(row.integer(5)),
                      row.blob(6),
                      row.blob(7),
                      row.integer(8),
                      row.blob(9),
                      {*pcr_banks, row.text(11)},
                      *launch,
                      row.blob(13),
                      row.blob(14),
                      row.blob(15)};
}

Result<std::vector<VtpmRecord>> vtpms_in(Statement &row) {
    std::vector<VtpmRecord> vtpms;
    for (;;) {
        VTPM_ASSIGN(const bool found, row.step());
        if (!found) return vtpms;
        VTPM_ASSIGN(VtpmRecord vtpm, vtpm_of(row));
        vtpms.push_back(std::move(vtpm));
    }
}

// Of a row that is known to be there. An index that is damaged may hide it, and a change of nothing is no success.
Result<> changed_one(const Database &database) {
    if (database.changes() == 1) return {};
    return fail(ErrorCode::kRefused, "store: the database is damaged: a row is there, and is not found");
}

template <typename... Values>
Result<> change_one(Database &database, std::string_view sql, const Values &...values) {
    VTPM_TRY(database.execute(sql, values...));
    return changed_one(database);
}

std::int64_t number(StateKind kind) { return static_cast<std::int64_t>(kind); }

// The statements that store one state, prepared once for all of a transaction.
struct StateWriter {
    Statement count_permanent;
    Statement count_volatile;
    Statement end_volatile;
    Statement put;
    Statement endorse;
    Statement launch;

    static Result<StateWriter> prepare(Database &database) {
        VTPM_ASSIGN(auto permanent,
                    database.prepare("UPDATE vtpms SET sequence = ?1, tag = ?2, volatile_tag = x'' WHERE uuid = ?3"));
        VTPM_ASSIGN(auto transient,
                    database.prepare("UPDATE vtpms SET volatile_sequence = ?1, volatile_tag = ?2 WHERE uuid = ?3"));
        VTPM_ASSIGN(auto end, database.prepare("DELETE FROM states WHERE kind = 2 AND uuid = ?1"));
        VTPM_ASSIGN(auto put,
                    database.prepare("INSERT INTO states (uuid, kind, sequence, envelope) VALUES (?1, ?2, ?3, ?4) "
                                     "ON CONFLICT (uuid, kind) DO UPDATE SET sequence = ?3, envelope = ?4"));
        VTPM_ASSIGN(auto endorse, database.prepare("UPDATE vtpms SET endorsement = ?1 WHERE uuid = ?2"));
        VTPM_ASSIGN(auto launch, database.prepare("UPDATE vtpms SET event_log_digest = ?1 WHERE uuid = ?2"));
        return StateWriter{std::move(permanent), std::move(transient), std::move(end),
                           std::move(put),       std::move(endorse),   std::move(launch)};
    }

    Result<> write(const Database &database, const StateWrite &state) {
        const std::string uuid = state.uuid.to_string();
        const auto sequence = static_cast<std::int64_t>(state.sequence);
        const bool permanent = state.kind == StateKind::kPermanent;
        const Bytes tag = envelope_tag(state.envelope);
        VTPM_TRY((permanent ? count_permanent : count_volatile).run_with(sequence, ByteView(tag), uuid));
        VTPM_TRY(changed_one(database));
        if (permanent) VTPM_TRY(end_volatile.run_with(uuid));
        if (!state.endorsement.empty()) VTPM_TRY(endorse.run_with(ByteView(state.endorsement), uuid));
        if (state.event_log_digest) VTPM_TRY(launch.run_with(ByteView(*state.event_log_digest), uuid));
        return put.run_with(uuid, number(state.kind), sequence, ByteView(state.envelope));
    }
};

constexpr std::string_view kCopyName = "copy-";

void remove_copies(const std::string &directory) {
    std::error_code ignored;
    for (std::filesystem::directory_iterator entry(directory, ignored), end; !ignored && entry != end;
         entry.increment(ignored))
        if (entry->path().filename().string().starts_with(kCopyName)) (void)::unlink(entry->path().c_str());
}

}  // namespace

Result<Store> Store::open(const std::string &directory_path, const char *vfs) {
    VTPM_ASSIGN(StateDirectory directory, StateDirectory::lock(directory_path));
    const bool first_start = directory.store_id().empty();
    if (!first_start && !directory.has_database())
        return fail(ErrorCode::kRefused,
                    "store: {} is gone or empty: restore it from a backup (store.id says that it was here)",
                    directory.database());
    remove_copies(directory_path);
    if (!first_start) VTPM_TRY(require_readable(directory.database()));
    VTPM_ASSIGN(Database database, Database::open(directory.database(), vfs));
    VTPM_TRY(configure(database));
    VTPM_TRY(ensure_schema(database, first_start));
    Store store(std::move(directory), std::move(database));
    VTPM_TRY(store.adopt_id());
    return store;
}

Result<std::string> Store::back_up(const std::function<void()> &between) {
    std::string copy = fmt::format("{}/{}{}.db", directory_.path(), kCopyName, Uuid::random().to_string());
    VTPM_TRY(database_.copy_to(copy, between));
    return copy;
}

// store.id without content beside a complete database: the first start ended between the two, or only the database
// was restored from a backup.
Result<> Store::adopt_id() {
    VTPM_ASSIGN(Statement row, database_.prepare("SELECT CAST(value AS TEXT) FROM meta WHERE name = 'store_id'"));
    VTPM_ASSIGN(const bool found, row.step());
    if (!found) return fail(ErrorCode::kRefused, "store: the database has no id: it is damaged");
    if (directory_.store_id().empty()) return directory_.set_store_id(row.text(0));
    if (directory_.store_id() != row.text(0))
        return fail(ErrorCode::kRefused, "store: {} is store {}, but store {} belongs here: restore that", path(),
                    row.text(0), directory_.store_id());
    return {};
}

Result<std::optional<Store::Pin>> Store::pin() {
    VTPM_ASSIGN(Statement row, database_.prepare("SELECT CAST(s.value AS TEXT), i.value FROM meta s, meta i "
                                                 "WHERE s.name = 'sealing' AND i.name = 'identity'"));
    VTPM_ASSIGN(const bool found, row.step());
    if (!found) return std::nullopt;
    return Pin{row.text(0), row.blob(1)};
}

Result<> Store::initialise(const Pin &pin, const GroupRecord &group) {
    VTPM_ASSIGN(Transaction transaction, Transaction::begin(database_));
    VTPM_TRY(database_.execute("INSERT INTO meta (name, value) VALUES ('sealing', CAST(? AS BLOB)), ('identity', ?)",
                               pin.sealing, ByteView(pin.identity)));
    VTPM_TRY(insert_group(group));
    return transaction.commit();
}

Result<> Store::insert_group(const GroupRecord &group) {
    return database_.execute(
        "INSERT INTO groups (name, pcrs, approver, generation, pcr_values, pcr_events, public_area, private_area, "
        "nv_index, manifest, recovery, ca_public, ca_private, ca_certificate, created) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        group.name, group.pcrs, ByteView(group.approver), std::int64_t{group.generation},
        ByteView(group.key.pcr_values), ByteView(group.key.pcr_events), ByteView(group.key.public_area),
        ByteView(group.key.private_area), std::int64_t{group.nv_index}, ByteView(group.manifest),
        ByteView(group.recovery), ByteView(group.ca.key.public_area), ByteView(group.ca.key.private_area),
        ByteView(group.ca.certificates), group.created);
}

Result<> Store::update_group(const GroupRecord &group) {
    VTPM_ASSIGN(Transaction transaction, Transaction::begin(database_));
    VTPM_TRY(change_one(
        database_,
        "UPDATE groups SET pcrs = ?, approver = ?, generation = ?, pcr_values = ?, pcr_events = ?, public_area = ?, "
        "private_area = ? WHERE name = ?",
        group.pcrs, ByteView(group.approver), std::int64_t{group.generation}, ByteView(group.key.pcr_values),
        ByteView(group.key.pcr_events), ByteView(group.key.public_area), ByteView(group.key.private_area), group.name));
    database_.wipe_log_after_commit();
    return transaction.commit();
}

Result<> Store::set_recovery(const std::string &group, ByteView recovery) {
    VTPM_ASSIGN(Transaction transaction, Transaction::begin(database_));
    VTPM_TRY(change_one(database_, "UPDATE groups SET recovery = ? WHERE name = ?", recovery, group));
    database_.wipe_log_after_commit();
    return transaction.commit();
}

Result<> Store::rekey_group(const GroupRecord &group) {
    VTPM_ASSIGN(Transaction transaction, Transaction::begin(database_));
    VTPM_TRY(update_group(group));
    VTPM_TRY(change_one(database_,
                        "UPDATE groups SET nv_index = ?, recovery = ?, ca_public = ?, ca_private = ?, "
                        "ca_certificate = ? WHERE name = ?",
                        std::int64_t{group.nv_index}, ByteView(group.recovery), ByteView(group.ca.key.public_area),
                        ByteView(group.ca.key.private_area), ByteView(group.ca.certificates), group.name));
    return transaction.commit();
}

Result<> Store::move_to(const Pin &pin, const GroupRecord &group) {
    VTPM_ASSIGN(Transaction transaction, Transaction::begin(database_));
    VTPM_TRY(change_one(database_, "UPDATE meta SET value = CAST(? AS BLOB) WHERE name = 'sealing'", pin.sealing));
    VTPM_TRY(change_one(database_, "UPDATE meta SET value = ? WHERE name = 'identity'", ByteView(pin.identity)));
    VTPM_TRY(update_group(group));
    VTPM_TRY(change_one(database_, "UPDATE groups SET nv_index = ? WHERE name = ?", std::int64_t{group.nv_index},
                        group.name));
    VTPM_TRY(set_ca(group.ca, {group.name, group.manifest}));
    return transaction.commit();
}

// A statement that is not done would keep the log from being wiped.
Result<std::int64_t> Store::count_vtpms(const std::string &group) {
    VTPM_ASSIGN(Statement row, database_.prepare("SELECT count(*) FROM vtpms WHERE group_name = ?", group));
    VTPM_TRY(row.step());
    return row.integer(0);
}

Result<> Store::delete_group(const std::string &name) {
    VTPM_ASSIGN(Transaction transaction, Transaction::begin(database_));
    VTPM_ASSIGN(const auto count, count_vtpms(name));
    if (count != 0)
        return fail(ErrorCode::kInUse, "group '{}' has {} vTPMs: delete them first: xen-vtpm delete UUID", name, count);
    VTPM_TRY(database_.execute("DELETE FROM policies WHERE group_name = ?", name));
    VTPM_TRY(database_.execute("DELETE FROM launch_approvals WHERE group_name = ?", name));
    VTPM_TRY(change_one(database_, "DELETE FROM groups WHERE name = ?", name));
    database_.wipe_log_after_commit();
    return transaction.commit();
}

Result<> Store::delete_vtpms_of(const std::string &group) {
    VTPM_ASSIGN(Transaction transaction, Transaction::begin(database_));
    VTPM_TRY(
        database_.execute("DELETE FROM states WHERE uuid IN (SELECT uuid FROM vtpms WHERE group_name = ?)", group));
    VTPM_TRY(database_.execute("DELETE FROM vtpms WHERE group_name = ?", group));
    database_.wipe_log_after_commit();
    return transaction.commit();
}

Result<std::vector<GroupRecord>> Store::groups() {
    VTPM_ASSIGN(
        Statement row,
        database_.prepare("SELECT name, pcrs, approver, generation, pcr_values, public_area, private_area, "
                          "nv_index, manifest, created, recovery, ca_public, ca_private, ca_certificate, pcr_events "
                          "FROM groups ORDER BY name"));
    std::vector<GroupRecord> groups;
    for (;;) {
        VTPM_ASSIGN(const bool found, row.step());
        if (!found) return groups;
        groups.push_back({row.text(0),
                          row.text(1),
                          row.blob(2),
                          static_cast<std::uint32_t>(row.integer(3)),
                          {row.blob(4), row.blob(5), row.blob(6), row.blob(14)},
                          static_cast<std::uint32_t>(row.integer(7)),
                          row.blob(8),
                          row.integer(9),
                          row.blob(10),
                          {{row.blob(11), row.blob(12)}, row.blob(13)}});
    }
}

Result<> Store::write_manifest(const ManifestWrite &manifest) {
    return change_one(database_, "UPDATE groups SET manifest = ? WHERE name = ?", ByteView(manifest.manifest),
                      manifest.group);
}

namespace {

// Of either table.
Result<std::vector<PolicyRecord>> documents_in(Database &database, std::string_view table) {
    VTPM_ASSIGN(Statement row, database.prepare(fmt::format("SELECT id, group_name, document, installed FROM {} "
                                                            "ORDER BY group_name, installed, id",
                                                            table)));
    std::vector<PolicyRecord> documents;
    for (;;) {
        VTPM_ASSIGN(const bool found, row.step());
        if (!found) return documents;
        documents.push_back({row.text(0), row.text(1), row.document(2), row.integer(3)});
    }
}

}  // namespace

Result<std::vector<PolicyRecord>> Store::policies() { return documents_in(database_, "policies"); }

Result<> Store::insert_policy(const PolicyRecord &policy) {
    return database_.execute("INSERT OR IGNORE INTO policies (id, group_name, document, installed) VALUES (?, ?, ?, ?)",
                             policy.id, policy.group, policy.document, policy.installed);
}

Result<> Store::delete_policy(const std::string &id) {
    VTPM_ASSIGN(Transaction transaction, Transaction::begin(database_));
    VTPM_TRY(database_.execute("DELETE FROM policies WHERE id = ?", id));
    if (database_.changes() == 0) return fail(ErrorCode::kNotFound, "there is no boot policy {}", id);
    database_.wipe_log_after_commit();
    return transaction.commit();
}

Result<std::vector<PolicyRecord>> Store::launch_approvals() { return documents_in(database_, "launch_approvals"); }

Result<std::int64_t> Store::count_launch_approvals(const std::string &group) {
    VTPM_ASSIGN(Statement row, database_.prepare("SELECT count(*) FROM launch_approvals WHERE group_name = ?", group));
    VTPM_TRY(row.step());
    return row.integer(0);
}

Result<std::vector<Bytes>> Store::launch_approvers_of(const std::string &group) {
    VTPM_ASSIGN(Statement row, database_.prepare("SELECT DISTINCT launch_approver FROM vtpms WHERE group_name = ? AND "
                                                 "launch_approver != x''",
                                                 group));
    std::vector<Bytes> approvers;
    for (;;) {
        VTPM_ASSIGN(const bool found, row.step());
        if (!found) return approvers;
        approvers.push_back(row.blob(0));
    }
}

Result<> Store::insert_launch_approval(const PolicyRecord &approval) {
    return database_.execute(
        "INSERT OR REPLACE INTO launch_approvals (id, group_name, document, installed) VALUES (?, ?, ?, ?)",
        approval.id, approval.group, approval.document, approval.installed);
}

Result<> Store::delete_launch_approval(const std::string &id) {
    VTPM_TRY(database_.execute("DELETE FROM launch_approvals WHERE id = ?", id));
    if (database_.changes() == 0) return fail(ErrorCode::kNotFound, "there is no launch approval {}", id);
    return {};
}

namespace {

AuditRecord audit_record_of(const Statement &row) {
    return {row.integer(0), row.integer(1), row.text(2), row.text(3), row.text(4), row.blob(5)};
}

constexpr std::string_view kAuditColumns = "SELECT number, time, event, subject, detail, chain FROM audit ";

}  // namespace

Result<std::vector<AuditRecord>> Store::audit_records() {
    VTPM_ASSIGN(Statement row, database_.prepare(std::string(kAuditColumns) + "ORDER BY number"));
    std::vector<AuditRecord> records;
    for (;;) {
        VTPM_ASSIGN(const bool found, row.step());
        if (!found) return records;
        records.push_back(audit_record_of(row));
    }
}

Result<std::optional<AuditRecord>> Store::last_audit_record(std::int64_t most) {
    VTPM_ASSIGN(Statement row,
                database_.prepare(std::string(kAuditColumns) + "WHERE number <= ? ORDER BY number DESC LIMIT 1", most));
    VTPM_ASSIGN(const bool found, row.step());
    if (!found) return std::nullopt;
    return audit_record_of(row);
}

Result<> Store::delete_audit_records_to(std::int64_t number) {
    return database_.execute("DELETE FROM audit WHERE number <= ?", number);
}

Result<bool> Store::has_audit_record(ByteView chain) {
    VTPM_ASSIGN(Statement row, database_.prepare("SELECT 1 FROM audit WHERE chain = ? LIMIT 1", chain));
    return row.step();
}

Result<> Store::append_audit_record(const AuditRecord &record) {
    return database_.execute(
        "INSERT INTO audit (number, time, event, subject, detail, chain) VALUES (?, ?, ?, ?, ?, ?)", record.number,
        record.time, record.event, record.subject, record.detail, ByteView(record.chain));
}

Result<std::optional<VtpmRecord>> Store::find_vtpm(const Uuid &uuid) {
    VTPM_ASSIGN(Statement row, database_.prepare(std::string(kVtpmColumns) + "WHERE uuid = ?", uuid.to_string()));
    VTPM_ASSIGN(const bool found, row.step());
    if (!found) return std::nullopt;
    return vtpm_of(row);
}

Result<Store::Listed> Store::vtpms(std::string_view after) {
    VTPM_ASSIGN(Statement row, database_.prepare(std::string(kVtpmColumns) + "WHERE uuid > ? ORDER BY uuid LIMIT ?",
                                                 after, kListedAtOnce));
    Listed listed;
    for (std::int64_t count = 1;; ++count) {
        VTPM_ASSIGN(const bool found, row.step());
        if (!found) return listed;
        if (count == kListedAtOnce) listed.last = row.document(0);
        auto vtpm = vtpm_of(row);
        if (vtpm)
            listed.vtpms.push_back(std::move(*vtpm));
        else
            listed.damaged.push_back(row.text(0));
    }
}

Result<std::vector<VtpmRecord>> Store::vtpms_of(const std::string &group) {
    VTPM_ASSIGN(Statement rows, database_.prepare(std::string(kVtpmColumns) + "WHERE group_name = ?", group));
    return vtpms_in(rows);
}

Result<> Store::each_vtpm_of(const std::string &group, const std::function<Result<>(const VtpmRecord &)> &take) {
    const Database::Mapped mapped(database_);
    VTPM_ASSIGN(Statement rows, database_.prepare(std::string(kVtpmColumns) + "WHERE group_name = ?", group));
    for (;;) {
        VTPM_ASSIGN(const bool found, rows.step());
        if (!found) return {};
        VTPM_ASSIGN(const VtpmRecord vtpm, vtpm_of(rows));
        VTPM_TRY(take(vtpm));
    }
}

Result<> Store::insert_vtpm(const VtpmRecord &vtpm, const ManifestWrite &manifest) {
    VTPM_ASSIGN(Transaction transaction, Transaction::begin(database_));
    VTPM_TRY(require_stateless(vtpm.uuid));
    VTPM_TRY(
        database_.execute("INSERT INTO vtpms (uuid, tpm_version, pcr_banks, algorithms, group_name, wrapped_key, "
                          "created, launch, launch_approver, launch_binding) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                          vtpm.uuid.to_string(), to_string(vtpm.version), vtpm.profile.pcr_banks.to_string(),
                          vtpm.profile.algorithms, vtpm.group, ByteView(vtpm.wrapped_key), vtpm.created,
                          to_string(vtpm.launch), ByteView(vtpm.launch_approver), ByteView(vtpm.launch_binding)));
    VTPM_TRY(write_manifest(manifest));
    return transaction.commit();
}

// The states go with the vTPM's row: one without it is of a vTPM whose row was damaged, and is not new.
Result<> Store::require_stateless(const Uuid &uuid) {
    VTPM_ASSIGN(Statement row, database_.prepare("SELECT 1 FROM states WHERE uuid = ? LIMIT 1", uuid.to_string()));
    VTPM_ASSIGN(const bool found, row.step());
    if (!found) return {};
    return fail(
        ErrorCode::kRefused,
        "vTPM {} has a state, but the inventory has no such vTPM: it is damaged; restore the store, or give the "
        "state up: xen-vtpm delete {}",
        uuid.to_string(), uuid.to_string());
}

Result<> Store::delete_orphaned_states(const Uuid &uuid) {
    VTPM_ASSIGN(Transaction transaction, Transaction::begin(database_));
    VTPM_TRY(database_.execute("DELETE FROM states WHERE uuid = ? AND uuid NOT IN (SELECT uuid FROM vtpms)",
                               uuid.to_string()));
    if (database_.changes() == 0) return fail(ErrorCode::kNotFound, "vTPM {} is unknown", uuid.to_string());
    database_.wipe_log_after_commit();
    return transaction.commit();
}

Result<> Store::set_ca(const CaRecord &ca, const ManifestWrite &manifest) {
    VTPM_ASSIGN(Transaction transaction, Transaction::begin(database_));
    VTPM_TRY(change_one(database_, "UPDATE groups SET ca_public = ?, ca_private = ?, ca_certificate = ? WHERE name = ?",
                        ByteView(ca.key.public_area), ByteView(ca.key.private_area), ByteView(ca.certificates),
                        manifest.group));
    VTPM_TRY(write_manifest(manifest));
    return transaction.commit();
}

Result<> Store::set_endorsements(std::span<const VtpmRecord> vtpms, const ManifestWrite &manifest) {
    VTPM_ASSIGN(Transaction transaction, Transaction::begin(database_));
    for (const VtpmRecord &vtpm : vtpms)
        VTPM_TRY(change_one(database_, "UPDATE vtpms SET endorsement = ? WHERE uuid = ?", ByteView(vtpm.endorsement),
                            vtpm.uuid.to_string()));
    VTPM_TRY(write_manifest(manifest));
    return transaction.commit();
}

Result<> Store::set_launch(const VtpmRecord &vtpm, const ManifestWrite &manifest) {
    VTPM_ASSIGN(Transaction transaction, Transaction::begin(database_));
    VTPM_TRY(change_one(
        database_,
        "UPDATE vtpms SET launch = ?, launch_approver = ?, launch_binding = ?, wrapped_key = ? WHERE uuid = ?",
        to_string(vtpm.launch), ByteView(vtpm.launch_approver), ByteView(vtpm.launch_binding),
        ByteView(vtpm.wrapped_key), vtpm.uuid.to_string()));
    VTPM_TRY(write_manifest(manifest));
    database_.wipe_log_after_commit();
    return transaction.commit();
}

Result<> Store::rekey_vtpm(const VtpmRecord &vtpm) {
    return change_one(database_, "UPDATE vtpms SET wrapped_key = ?, tag = ?, volatile_tag = ? WHERE uuid = ?",
                      ByteView(vtpm.wrapped_key), ByteView(vtpm.tag), ByteView(vtpm.volatile_tag),
                      vtpm.uuid.to_string());
}

Result<> Store::replace_envelope(const Uuid &uuid, StateKind kind, ByteView envelope) {
    return change_one(database_, "UPDATE states SET envelope = ? WHERE uuid = ? AND kind = ?", envelope,
                      uuid.to_string(), number(kind));
}

Result<> Store::delete_vtpm(const Uuid &uuid, const ManifestWrite &manifest) {
    VTPM_ASSIGN(Transaction transaction, Transaction::begin(database_));
    VTPM_TRY(database_.execute("DELETE FROM states WHERE uuid = ?", uuid.to_string()));
    VTPM_TRY(change_one(database_, "DELETE FROM vtpms WHERE uuid = ?", uuid.to_string()));
    VTPM_TRY(write_manifest(manifest));
    database_.wipe_log_after_commit();
    return transaction.commit();
}

Result<std::optional<StateRecord>> Store::find_state(const Uuid &uuid, StateKind kind) {
    VTPM_ASSIGN(Statement row, database_.prepare("SELECT sequence, envelope FROM states WHERE uuid = ? AND kind = ?",
                                                 uuid.to_string(), number(kind)));
    VTPM_ASSIGN(const bool found, row.step());
    if (!found) return std::nullopt;
    return StateRecord{static_cast<std::uint64_t>(row.integer(0)), row.blob(1)};
}

Result<> Store::delete_volatile_state(const Uuid &uuid, const ManifestWrite &manifest) {
    VTPM_ASSIGN(Transaction transaction, Transaction::begin(database_));
    VTPM_TRY(database_.execute("DELETE FROM states WHERE uuid = ? AND kind = 2", uuid.to_string()));
    VTPM_TRY(change_one(database_, "UPDATE vtpms SET volatile_tag = x'' WHERE uuid = ?", uuid.to_string()));
    VTPM_TRY(write_manifest(manifest));
    return transaction.commit();
}

Result<> Store::write_states(std::span<const StateWrite *const> writes, std::span<const ManifestWrite> manifests) {
    VTPM_ASSIGN(Transaction transaction, Transaction::begin(database_));
    VTPM_ASSIGN(StateWriter writer, StateWriter::prepare(database_));
    for (const StateWrite *state : writes) VTPM_TRY(writer.write(database_, *state));
    for (const ManifestWrite &manifest : manifests) VTPM_TRY(write_manifest(manifest));
    return transaction.commit();
}

}  // namespace vtpm
