// SPDX-License-Identifier: Apache-2.0
#include "manager/store/sqlite_store.hpp"

#include <unistd.h>

#include <filesystem>

#include "manager/store/schema.hpp"
#include "manager/store/sqlite_writer.hpp"

namespace vtpm {
namespace {

// Of what was staged, and adopted, the rest is in the place of the former.
constexpr std::string_view kVtpmColumns =
    "SELECT v.uuid, tpm_version, group_name, coalesce(s.wrapped_key, v.wrapped_key), sequence, volatile_sequence, "
    "coalesce(s.tag, v.tag), coalesce(s.volatile_tag, v.volatile_tag), created, endorsement, pcr_banks, algorithms, "
    "launch, event_log_digest, launch_approver, launch_binding, alias, guest, last_used FROM vtpms v LEFT JOIN "
    "staged_vtpms s "
    "ON s.uuid = v.uuid AND (SELECT adopted FROM groups WHERE name = v.group_name) ";

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
                      row.blob(15),
                      row.text(16),
                      row.text(17),
                      row.integer(18)};
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

std::int64_t number(StateKind kind) { return static_cast<std::int64_t>(kind); }

constexpr std::string_view kCopyName = "copy-";

void remove_copies(const std::string &directory) {
    std::error_code ignored;
    for (std::filesystem::directory_iterator entry(directory, ignored), end; !ignored && entry != end;
         entry.increment(ignored))
        if (entry->path().filename().string().starts_with(kCopyName)) (void)::unlink(entry->path().c_str());
}

}  // namespace

Result<SqliteStore> SqliteStore::open(const std::string &directory_path, const char *vfs) {
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
    database.wipe_log();  // which a crash may have left
    SqliteStore store(std::move(directory), std::move(database));
    VTPM_TRY(store.adopt_id());
    VTPM_TRY(store.look_for_staged());
    return store;
}

Result<> SqliteStore::require_known(const std::string &directory_path) {
    return require_known_schema(directory_path + "/store.db");
}

Result<std::string> SqliteStore::back_up(const std::function<void()> &between) {
    std::string copy = fmt::format("{}/{}{}.db", directory_.path(), kCopyName, Uuid::random().to_string());
    VTPM_TRY(database_.copy_to(copy, between));
    return copy;
}

Result<> SqliteStore::require_room() {
    std::error_code failed;
    const auto used = std::filesystem::file_size(path(), failed);
    const auto disk = std::filesystem::space(path(), failed);
    if (failed) return fail(ErrorCode::kSystem, "store: {}: {}", path(), failed.message());
    // Some file systems do not say.
    if (disk.capacity == 0 || disk.available >= used) return {};
    return fail(ErrorCode::kUnavailable,
                "store: {} has {} KiB, which are to be written anew, and its file system has room for {} KiB", path(),
                used / 1024, disk.available / 1024);
}

// No transaction is open while it is collected.
void SqliteStore::commit(const Edits &edits, const Done &done) {
    require(!std::exchange(collecting_, true), "one change is collected at a time");
    const Result<> written = write(edits);
    collecting_ = false;
    done(written);
}

Result<> SqliteStore::write(const Edits &edits) {
    Change change;
    VTPM_TRY(edits(change));
    has_staged_ |= change.last<StageVtpm>() != nullptr;
    Result<> written = write_change(database_, change, has_staged_);
    if (written && change.last<MergeStaged>() != nullptr) (void)look_for_staged();
    return written;
}

Result<> SqliteStore::look_for_staged() {
    VTPM_ASSIGN(const auto found, database_.integer("SELECT EXISTS (SELECT 1 FROM staged_vtpms)"));
    has_staged_ = found != 0;
    return {};
}

// store.id without content beside a complete database: the first start ended between the two, or only the database
// was restored from a backup.
Result<> SqliteStore::adopt_id() {
    VTPM_ASSIGN(Statement row, database_.prepare("SELECT CAST(value AS TEXT) FROM meta WHERE name = 'store_id'"));
    VTPM_ASSIGN(const bool found, row.step());
    if (!found) return fail(ErrorCode::kRefused, "store: the database has no id: it is damaged");
    if (directory_.store_id().empty()) return directory_.set_store_id(row.text(0));
    if (directory_.store_id() != row.text(0))
        return fail(ErrorCode::kRefused, "store: {} is store {}, but store {} belongs here: restore that", path(),
                    row.text(0), directory_.store_id());
    return {};
}

Result<std::optional<Pin>> SqliteStore::pin() {
    VTPM_ASSIGN(Statement row, database_.prepare("SELECT CAST(s.value AS TEXT), i.value FROM meta s, meta i "
                                                 "WHERE s.name = 'sealing' AND i.name = 'identity'"));
    VTPM_ASSIGN(const bool found, row.step());
    if (!found) return std::nullopt;
    return Pin{row.text(0), row.blob(1)};
}

Result<std::int64_t> SqliteStore::count_vtpms(const std::string &group) {
    VTPM_ASSIGN(Statement row, database_.prepare("SELECT count(*) FROM vtpms WHERE group_name = ?", group));
    VTPM_TRY(row.step());
    return row.integer(0);
}

Result<std::vector<GroupRecord>> SqliteStore::groups() {
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

Result<std::vector<PolicyRecord>> SqliteStore::policies() { return documents_in(database_, "policies"); }

Result<std::vector<PolicyRecord>> SqliteStore::launch_approvals() {
    return documents_in(database_, "launch_approvals");
}

Result<std::int64_t> SqliteStore::count_launch_approvals(const std::string &group) {
    VTPM_ASSIGN(Statement row, database_.prepare("SELECT count(*) FROM launch_approvals WHERE group_name = ?", group));
    VTPM_TRY(row.step());
    return row.integer(0);
}

Result<std::vector<Bytes>> SqliteStore::launch_approvers_of(const std::string &group) {
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

namespace {

AuditRecord audit_record_of(const Statement &row) {
    return {row.integer(0), row.integer(1), row.text(2), row.text(3), row.text(4), row.blob(5)};
}

constexpr std::string_view kAuditColumns = "SELECT number, time, event, subject, detail, chain FROM audit ";

}  // namespace

Result<std::vector<AuditRecord>> SqliteStore::audit_records() {
    VTPM_ASSIGN(Statement row, database_.prepare(std::string(kAuditColumns) + "ORDER BY number"));
    std::vector<AuditRecord> records;
    for (;;) {
        VTPM_ASSIGN(const bool found, row.step());
        if (!found) return records;
        records.push_back(audit_record_of(row));
    }
}

Result<std::optional<AuditRecord>> SqliteStore::last_audit_record(std::int64_t most) {
    VTPM_ASSIGN(Statement row,
                database_.prepare(std::string(kAuditColumns) + "WHERE number <= ? ORDER BY number DESC LIMIT 1", most));
    VTPM_ASSIGN(const bool found, row.step());
    if (!found) return std::nullopt;
    return audit_record_of(row);
}

Result<bool> SqliteStore::has_audit_record(ByteView chain) {
    VTPM_ASSIGN(Statement row, database_.prepare("SELECT 1 FROM audit WHERE chain = ? LIMIT 1", chain));
    return row.step();
}

Result<std::optional<VtpmRecord>> SqliteStore::find_vtpm(const Uuid &uuid) {
    VTPM_ASSIGN(Statement row, database_.prepare(std::string(kVtpmColumns) + "WHERE v.uuid = ?", uuid.to_string()));
    VTPM_ASSIGN(const bool found, row.step());
    if (!found) return std::nullopt;
    return vtpm_of(row);
}

Result<Store::Listed> SqliteStore::vtpms(std::string_view after) {
    VTPM_ASSIGN(Statement row, database_.prepare(std::string(kVtpmColumns) + "WHERE v.uuid > ? ORDER BY v.uuid LIMIT ?",
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

Result<std::vector<VtpmRecord>> SqliteStore::vtpms_named(const std::string &name) {
    const Database::Mapped mapped(database_);
    VTPM_ASSIGN(Statement rows,
                database_.prepare(std::string(kVtpmColumns) + "WHERE alias = ?1 OR guest = ?1 ORDER BY v.uuid", name));
    return vtpms_in(rows);
}

Result<std::vector<VtpmRecord>> SqliteStore::vtpms_of(const std::string &group) {
    VTPM_ASSIGN(Statement rows, database_.prepare(std::string(kVtpmColumns) + "WHERE group_name = ?", group));
    return vtpms_in(rows);
}

Result<> SqliteStore::each_vtpm_of(const std::string &group, const std::function<Result<>(const VtpmRecord &)> &take) {
    const Database::Mapped mapped(database_);
    VTPM_ASSIGN(Statement rows, database_.prepare(std::string(kVtpmColumns) + "WHERE group_name = ?", group));
    for (;;) {
        VTPM_ASSIGN(const bool found, rows.step());
        if (!found) return {};
        VTPM_ASSIGN(const VtpmRecord vtpm, vtpm_of(rows));
        VTPM_TRY(take(vtpm));
    }
}

Result<std::optional<StateRecord>> SqliteStore::find_state(const Uuid &uuid, StateKind kind) {
    VTPM_ASSIGN(Statement row,
                database_.prepare("SELECT s.sequence, coalesce(t.envelope, s.envelope) FROM states s "
                                  "LEFT JOIN staged_states t ON t.uuid = s.uuid AND t.kind = s.kind AND "
                                  "(SELECT adopted FROM groups, vtpms v WHERE name = v.group_name AND v.uuid = s.uuid) "
                                  "WHERE s.uuid = ? AND s.kind = ?",
                                  uuid.to_string(), number(kind)));
    VTPM_ASSIGN(const bool found, row.step());
    if (!found) return std::nullopt;
    return StateRecord{static_cast<std::uint64_t>(row.integer(0)), row.blob(1)};
}

Result<bool> SqliteStore::has_staged(const std::string &group) {
    VTPM_ASSIGN(
        Statement row,
        database_.prepare("SELECT 1 FROM groups WHERE name = ?1 AND adopted UNION ALL SELECT 1 FROM "
                          "staged_vtpms s CROSS JOIN vtpms v ON v.uuid = s.uuid WHERE v.group_name = ?1 LIMIT 1",
                          group));
    return row.step();
}

}  // namespace vtpm
