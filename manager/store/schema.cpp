// SPDX-License-Identifier: Apache-2.0
#include "manager/store/schema.hpp"

#include <array>
#include <fstream>
#include <map>
#include <vector>

#include "base/uuid.hpp"

namespace vtpm {
namespace {

constexpr std::int64_t kApplicationId = 0x7854504d;  // "xTPM"; file(1) and we know our databases by it
constexpr std::int64_t kSchemaVersion = 14;
constexpr std::int64_t kOldestSchema = 8;  // what its manifests do not have: manifest.cpp

// Blobs that change often (states) stand apart from the inventory. `sequence` counts the stores of the permanent
// state, `volatile_sequence` those of the volatile one; 0: never stored.
constexpr const char *kOldestTables = R"(
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE groups (
    name TEXT PRIMARY KEY,
    pcrs TEXT NOT NULL,
    approver BLOB NOT NULL,
    generation INTEGER NOT NULL CHECK (generation > 0),
    pcr_values BLOB NOT NULL,
    pcr_events BLOB NOT NULL,
    public_area BLOB NOT NULL,
    private_area BLOB NOT NULL,
    nv_index INTEGER NOT NULL,
    manifest BLOB NOT NULL,
    recovery BLOB NOT NULL,
    ca_public BLOB NOT NULL,
    ca_private BLOB NOT NULL,
    ca_certificate BLOB NOT NULL,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE vtpms (
    uuid TEXT PRIMARY KEY CHECK (length(uuid) = 36),
    tpm_version TEXT NOT NULL CHECK (tpm_version IN ('1.2', '2.0')),
    pcr_banks TEXT NOT NULL,
    algorithms TEXT NOT NULL,
    group_name TEXT NOT NULL REFERENCES groups (name),
    wrapped_key BLOB NOT NULL,
    sequence INTEGER NOT NULL DEFAULT 0 CHECK (sequence >= 0),
    volatile_sequence INTEGER NOT NULL DEFAULT 0 CHECK (volatile_sequence >= 0),
    tag BLOB NOT NULL DEFAULT x'',
    volatile_tag BLOB NOT NULL DEFAULT x'',
    endorsement BLOB NOT NULL DEFAULT x'',
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE states (
    uuid TEXT NOT NULL REFERENCES vtpms (uuid),
    kind INTEGER NOT NULL CHECK (kind IN (1, 2)),
    sequence INTEGER NOT NULL CHECK (sequence > 0),
    envelope BLOB NOT NULL,
    PRIMARY KEY (uuid, kind)
) STRICT;
CREATE TABLE policies (
    id TEXT PRIMARY KEY,
    group_name TEXT NOT NULL REFERENCES groups (name),
    document TEXT NOT NULL,
    installed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    event TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    chain BLOB NOT NULL
) STRICT;
)";

// What makes tables of the version before into those of `version`: of a new database as of an old one.
struct Upgrade {
    std::int64_t version;
    const char *script;
};
constexpr std::array<Upgrade, 4> kUpgrades{
    {{11,
      "ALTER TABLE vtpms ADD COLUMN launch TEXT NOT NULL DEFAULT 'off' CHECK (launch IN ('off', 'measure', "
      "'require'));"
      "ALTER TABLE vtpms ADD COLUMN event_log_digest BLOB NOT NULL DEFAULT x''"},
     // What a column allows cannot be changed.
     {12,
      "ALTER TABLE vtpms RENAME COLUMN launch TO former_launch;"
      "ALTER TABLE vtpms ADD COLUMN launch TEXT NOT NULL DEFAULT 'off' CHECK (launch IN ('off', 'measure', 'require', "
      "'require-approved'));"
      "UPDATE vtpms SET launch = former_launch;"
      "ALTER TABLE vtpms DROP COLUMN former_launch;"
      "ALTER TABLE vtpms ADD COLUMN launch_approver BLOB NOT NULL DEFAULT x'';"
      "ALTER TABLE vtpms ADD COLUMN launch_binding BLOB NOT NULL DEFAULT x'';"
      "CREATE TABLE launch_approvals ("
      "    id TEXT PRIMARY KEY,"
      "    group_name TEXT NOT NULL REFERENCES groups (name),"
      "    document TEXT NOT NULL,"
      "    installed INTEGER NOT NULL"
      ") STRICT, WITHOUT ROWID"},
     // What the vTPMs of a group will be when it has another key; once it is adopted they are so.
     {13,
      "ALTER TABLE groups ADD COLUMN adopted INTEGER NOT NULL DEFAULT 0 CHECK (adopted IN (0, 1));"
      "CREATE TABLE staged_vtpms ("
      "    uuid TEXT PRIMARY KEY REFERENCES vtpms (uuid),"
      "    wrapped_key BLOB NOT NULL,"
      "    tag BLOB NOT NULL,"
      "    volatile_tag BLOB NOT NULL"
      ") STRICT, WITHOUT ROWID;"
      "CREATE TABLE staged_states ("
      "    uuid TEXT NOT NULL REFERENCES staged_vtpms (uuid),"
      "    kind INTEGER NOT NULL CHECK (kind IN (1, 2)),"
      "    envelope BLOB NOT NULL,"
      "    PRIMARY KEY (uuid, kind)"
      ") STRICT"},
     // And the envelope of a vTPM's key is one that a former program would not open (groups/envelope.cpp).
     {14,
      "ALTER TABLE vtpms ADD COLUMN alias TEXT NOT NULL DEFAULT '';"
      "ALTER TABLE vtpms ADD COLUMN guest TEXT NOT NULL DEFAULT '';"
      "ALTER TABLE vtpms ADD COLUMN last_used INTEGER NOT NULL DEFAULT 0"}}};

// After `from`, up to `to`.
Result<> upgrade(Database &database, std::int64_t from, std::int64_t to) {
    for (const Upgrade &next : kUpgrades)
        if (next.version > from && next.version <= to) VTPM_TRY(database.script(next.script));
    return {};
}

Result<> make_tables(Database &database, std::int64_t version) {
    VTPM_TRY(database.script(kOldestTables));
    return upgrade(database, kOldestSchema, version);
}

Result<> set_version(Database &database) {
    return database.script(fmt::format("PRAGMA user_version = {}", kSchemaVersion).c_str());
}

Result<> create_schema(Database &database) {
    VTPM_ASSIGN(Transaction transaction, Transaction::begin(database));
    VTPM_TRY(make_tables(database, kSchemaVersion));
    VTPM_TRY(database.script(fmt::format("PRAGMA application_id = {}", kApplicationId).c_str()));
    VTPM_TRY(set_version(database));
    const std::string id = Uuid::random().to_string();
    VTPM_TRY(database.execute("INSERT INTO meta (name, value) VALUES ('store_id', CAST(? AS BLOB))", id));
    return transaction.commit();
}

// Type, name, table and text of each table, index, view and trigger.
using Objects = std::vector<std::array<Bytes, 4>>;

Result<Objects> objects_of(Database &database) {
    VTPM_ASSIGN(Statement row, database.prepare("SELECT type, name, tbl_name, sql FROM sqlite_master "
                                                "ORDER BY type, name, tbl_name"));
    Objects objects;
    for (;;) {
        VTPM_ASSIGN(const bool found, row.step());
        if (!found) return objects;
        objects.push_back({row.blob(0), row.blob(1), row.blob(2), row.blob(3)});
    }
}

// Ours, by a database in memory: to make it takes longer than all else that opens a store, so it is made once.
Result<Objects> our_objects(std::int64_t version) {
    static std::map<std::int64_t, Objects> made;
    if (const auto known = made.find(version); known != made.end()) return known->second;
    VTPM_ASSIGN(Database ours, Database::open(":memory:"));
    VTPM_TRY(make_tables(ours, version));
    VTPM_ASSIGN(Objects objects, objects_of(ours));
    return made[version] = std::move(objects);
}

// Who had the disk may have added a trigger, which would undo what we store, or another table in the place of ours.
Result<> require_our_schema(Database &database, std::int64_t version) {
    VTPM_ASSIGN(const Objects expected, our_objects(version));
    VTPM_ASSIGN(const Objects found, objects_of(database));
    if (found == expected) return {};
    return fail(ErrorCode::kRefused,
                "store: its tables, or what belongs to them, are not as xen-vtpm makes them: somebody changed the "
                "database; restore it from a backup");
}

// What came before the manifest cannot be taken over: it would be the way around it.
Result<> require_known(std::int64_t version) {
    if (version > kSchemaVersion)
        return fail(ErrorCode::kRefused, "store: its schema is version {}, this program knows {}: use a newer xen-vtpm",
                    version, kSchemaVersion);
    if (version < kOldestSchema)
        return fail(ErrorCode::kRefused, "store: its schema is version {}, made before the first release of xen-vtpm",
                    version);
    return {};
}

// What was written is in the database itself, and not in its log only: for require_known_schema() of another process.
Result<> bring_home(Database &database) { return database.script("PRAGMA wal_checkpoint(TRUNCATE)"); }

// Big-endian, as SQLite's header has its numbers.
std::int64_t number_at(const std::array<char, 100> &header, std::size_t at) {
    std::uint32_t number = 0;
    for (std::size_t i = 0; i < sizeof number; ++i) number = number << 8 | static_cast<std::uint8_t>(header.at(at + i));
    return number;
}

// Not quick_check: rows out of their order are not found, and an index may name other rows than there are.
Result<> check_integrity(Database &database) {
    const Database::Mapped mapped(database);
    VTPM_ASSIGN(Statement check, database.prepare("PRAGMA integrity_check(1)"));
    VTPM_TRY(check.step());
    if (check.text(0) != "ok") return fail(ErrorCode::kRefused, "store: the database is damaged: {}", check.text(0));
    return {};
}

}  // namespace

// Exclusive locking is set before WAL is, so that SQLite needs no shared memory and keeps the lock until the end.
Result<> configure(Database &database) {
    auto configured = database.script(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
        "PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON; PRAGMA trusted_schema = OFF;"
        "PRAGMA journal_size_limit = 16777216; BEGIN EXCLUSIVE; COMMIT");
    if (!configured && (sqlite3_errcode(database.raw()) & 0xff) == SQLITE_BUSY)
        return fail(ErrorCode::kInUse, "store: another process has the database open");
    return configured;
}

Result<> ensure_schema(Database &database, bool may_create) {
    VTPM_ASSIGN(const auto tables, database.integer("SELECT count(*) FROM sqlite_master"));
    if (tables == 0) {
        if (may_create) {
            VTPM_TRY(create_schema(database));
            return bring_home(database);
        }
        return fail(ErrorCode::kRefused, "store: the database is empty, but it was not: restore it from a backup");
    }
    VTPM_ASSIGN(const auto application, database.integer("PRAGMA application_id"));
    if (application != kApplicationId) return fail(ErrorCode::kRefused, "store: not a database of xen-vtpm");
    VTPM_ASSIGN(const auto version, database.integer("PRAGMA user_version"));
    VTPM_TRY(require_known(version));
    VTPM_TRY(require_our_schema(database, version));
    VTPM_TRY(check_integrity(database));
    if (version == kSchemaVersion) return {};
    // Groups' manifests are of the new version when they are next written: the former program could not read them.
    VTPM_ASSIGN(Transaction transaction, Transaction::begin(database));
    VTPM_TRY(upgrade(database, version, kSchemaVersion));
    VTPM_TRY(set_version(database));
    VTPM_TRY(transaction.commit());
    return bring_home(database);
}

// "The database file format", 1.3: the schema's version is at 60, the application's id at 68.
Result<> require_known_schema(const std::string &path) {
    std::array<char, 100> header{};
    std::ifstream file(path, std::ios::binary);
    if (!file.read(header.data(), header.size())) return {};
    if (number_at(header, 68) != kApplicationId) return fail(ErrorCode::kRefused, "store: not a database of xen-vtpm");
    return require_known(number_at(header, 60));
}

}  // namespace vtpm
