// SPDX-License-Identifier: Apache-2.0
#include "manager/store/sqlite_store.hpp"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "edited.hpp"
#include "expect.hpp"
#include "failing_vfs.hpp"
#include "manager/store/schema.hpp"
#include "temporary_directory.hpp"

namespace vtpm::store_test {

namespace {

VtpmRecord some_vtpm() {
    VtpmRecord vtpm;
    vtpm.uuid = Uuid::random();
    vtpm.group = "default";
    vtpm.wrapped_key = {1, 2, 3};
    return vtpm;
}

StateWrite some_state(const Uuid &uuid, std::uint64_t sequence, StateKind kind = StateKind::kPermanent) {
    return {uuid, "default", kind, sequence, Bytes(10'000, static_cast<std::uint8_t>(sequence))};
}

Result<> write(Store &store, const StateWrite &state) { return edited(store, shared(state)); }

// Of all files.
std::string contents(const std::string &directory) {
    std::string all;
    for (const auto &entry : std::filesystem::directory_iterator(directory)) {
        std::ifstream file(entry.path(), std::ios::binary);
        all.append(std::istreambuf_iterator<char>(file), {});
    }
    return all;
}

struct Fixture {
    TemporaryDirectory directory;

    SqliteStore first_start(const char *vfs = nullptr) const {
        SqliteStore store = expect(SqliteStore::open(directory.path(), vfs));
        expect(edited(store, SetPin{{"tpm", {1, 2}}},
                      InsertGroup{{"default", "sha256:7", {}, 1, {{2}, {3}, {4}}, 6, {7}, 5, {}, {}}}));
        return store;
    }
    void run_sql(const char *sql) const {
        auto database = expect(Database::open(directory / "store.db"));
        expect(database.script(sql));
    }
    [[nodiscard]] Error refusal() const { return expect_error(SqliteStore::open(directory.path())); }
};

}  // namespace

// In a mount namespace of its own, and so in a process of its own.
TEST_CASE_METHOD(Fixture, "whoever is to write the store anew is told that there is no room for that") {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        const std::string place = directory.path();
        const char *const disk = place.c_str();
        if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
            ::mount("none", disk, "tmpfs", 0, "size=2M,mode=0700") != 0)
            ::_exit(2);
        SqliteStore store = first_start();
        const bool has_room = store.require_room().has_value();
        std::ofstream(directory / "filler") << std::string(std::filesystem::space(disk).available - 8192, 'x');
        const auto refused = store.require_room();
        const bool says_so = !refused && refused.error().code == ErrorCode::kUnavailable &&
                             refused.error().text.find("room for 8 KiB") != std::string::npos;
        ::_exit(has_room && says_so ? 0 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

TEST_CASE_METHOD(Fixture, "a group's key is kept as it is sealed, at first and anew") {
    SqliteStore store = first_start();
    GroupRecord group = expect(store.groups()).at(0);
    const auto require_kept = [&] {
        const SealedObject kept = expect(store.groups()).at(0).key;
        REQUIRE(kept.pcr_values == group.key.pcr_values);
        REQUIRE(kept.public_area == group.key.public_area);
        REQUIRE(kept.private_area == group.key.private_area);
        REQUIRE(kept.pcr_events == group.key.pcr_events);
    };
    group.key = {{12}, {13}, {14}, {15}};
    expect(edited(store, SealGroup{group}));
    require_kept();
    group.name = "another";
    group.key = {{22}, {23}, {24}, {25}};
    expect(edited(store, InsertGroup{group}));
    require_kept();
}

TEST_CASE_METHOD(Fixture, "a store keeps what it was given") {
    VtpmRecord vtpm = some_vtpm();
    vtpm.profile.pcr_banks = expect(PcrBanks::parse("sha1,sha512"));
    vtpm.profile.algorithms = "rsa,sha256";
    std::string id;
    {
        SqliteStore store = first_start();
        id = store.id();
        expect(edited(store, InsertVtpm{vtpm}));
        expect(write(store, some_state(vtpm.uuid, 1)));
        expect(write(store, some_state(vtpm.uuid, 2)));
    }
    SqliteStore store = expect(SqliteStore::open(directory.path()));
    REQUIRE(store.id() == id);
    REQUIRE(expect(store.pin())->identity == Bytes{1, 2});
    REQUIRE(expect(store.groups()).at(0).pcrs == "sha256:7");
    const auto kept = expect(store.find_vtpm(vtpm.uuid));
    REQUIRE(kept);
    REQUIRE(kept->wrapped_key == vtpm.wrapped_key);
    REQUIRE(kept->sequence == 2);
    REQUIRE(kept->profile.algorithms == "rsa,sha256");
    REQUIRE(kept->profile.pcr_banks.to_string() == "sha1,sha512");
    REQUIRE(expect(store.find_state(vtpm.uuid, StateKind::kPermanent))->envelope == Bytes(10'000, 2));
}

TEST_CASE_METHOD(Fixture, "two managers cannot work on one store") {
    const SqliteStore store = first_start();
    REQUIRE(refusal().code == ErrorCode::kInUse);
}

TEST_CASE_METHOD(Fixture, "a database that another program has open is in use") {
    first_start();
    auto other = expect(Database::open(directory / "store.db"));
    expect(other.script("BEGIN IMMEDIATE"));
    REQUIRE(refusal().code == ErrorCode::kInUse);
}

TEST_CASE_METHOD(Fixture, "a database that is gone is not made anew") {
    first_start();
    std::filesystem::remove(directory / "store.db");
    REQUIRE(refusal().code == ErrorCode::kRefused);
    REQUIRE_FALSE(std::filesystem::exists(directory / "store.db"));
}

TEST_CASE_METHOD(Fixture, "a database that was emptied is not made anew") {
    first_start();
    std::filesystem::resize_file(directory / "store.db", 0);
    REQUIRE(refusal().code == ErrorCode::kRefused);
    REQUIRE(std::filesystem::file_size(directory / "store.db") == 0);
}

TEST_CASE_METHOD(Fixture, "a first start that ended before its database was complete is a first start again") {
    std::ofstream(directory / "store.db").flush();
    std::ofstream(directory / "store.id").flush();
    first_start();
}

TEST_CASE_METHOD(Fixture, "a database restored without store.id is taken as it is") {
    const std::string id = first_start().id();
    std::filesystem::remove(directory / "store.id");
    REQUIRE(expect(SqliteStore::open(directory.path())).id() == id);
}

TEST_CASE_METHOD(Fixture, "a file that is not a database is refused and left alone") {
    first_start();
    std::ofstream(directory / "store.db", std::ios::trunc) << std::string(8192, 'x');
    REQUIRE(refusal().code == ErrorCode::kRefused);
    REQUIRE(std::filesystem::file_size(directory / "store.db") == 8192);
}

TEST_CASE_METHOD(Fixture, "a damaged page is refused") {
    {
        SqliteStore store = first_start();
        for (int i = 0; i < 200; ++i) expect(edited(store, InsertVtpm{some_vtpm()}));
    }
    std::fstream file(directory / "store.db", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(std::filesystem::file_size(directory / "store.db")) - 4096);
    file << std::string(4096, '\xff');
    file.close();
    const Error error = refusal();
    REQUIRE(error.code == ErrorCode::kRefused);
    REQUIRE_THAT(error.text, Contains("damaged"));
}

TEST_CASE_METHOD(Fixture, "another store's database is refused") {
    first_start();
    const TemporaryDirectory elsewhere;
    expect(SqliteStore::open(elsewhere.path()));
    std::filesystem::copy_file(elsewhere / "store.db", directory / "store.db",
                               std::filesystem::copy_options::overwrite_existing);
    REQUIRE_THAT(refusal().text, Contains("belongs here"));
}

TEST_CASE_METHOD(Fixture, "a store from before the manifest is refused: it would be the way around it") {
    first_start();
    run_sql("PRAGMA user_version = 4");
    REQUIRE_THAT(refusal().text, Contains("before the first release"));
}

TEST_CASE_METHOD(Fixture, "a newer schema is refused") {
    first_start();
    run_sql("PRAGMA user_version = 1000");
    REQUIRE_THAT(refusal().text, Contains("schema is version 1000"));
}

TEST_CASE_METHOD(Fixture, "a database of something else is refused") {
    first_start();
    run_sql("PRAGMA application_id = 1");
    REQUIRE_THAT(refusal().text, Contains("not a database of xen-vtpm"));
}

TEST_CASE_METHOD(Fixture, "a destroyed vTPM leaves nothing of itself in the files") {
    SqliteStore store = first_start();
    VtpmRecord vtpm = some_vtpm();
    const std::string marker = "a wrapped key that must not stay";
    vtpm.wrapped_key = Bytes(marker.begin(), marker.end());
    expect(edited(store, InsertVtpm{vtpm}));
    expect(write(store, some_state(vtpm.uuid, 1)));
    SECTION("by itself") expect(edited(store, DeleteVtpm{vtpm.uuid}));
    SECTION("as a part of something larger")
    expect(edited(store, ManifestWrite{"default", {8}}, DeleteVtpm{vtpm.uuid}, ManifestWrite{"default", {9}}));
    REQUIRE_FALSE(expect(store.find_vtpm(vtpm.uuid)));
    REQUIRE_FALSE(expect(store.find_state(vtpm.uuid, StateKind::kPermanent)));
    REQUIRE(contents(directory.path()).find(marker) == std::string::npos);
}

// As a crash leaves it that comes between a commit and what takes it into the database.
TEST_CASE_METHOD(Fixture,
                 "what a crash left in the log is in the database, and what went in no file, at the next start") {
    const std::string marker = "a recovery key that must not stay";
    {
        SqliteStore store = first_start();
        expect(edited(store, SetRecovery{"default", Bytes(marker.begin(), marker.end())}));
    }
    const TemporaryDirectory crashed;
    run_sql("PRAGMA user_version = 13");
    {
        auto database = expect(Database::open(directory / "store.db"));
        expect(configure(database));
        expect(database.script("BEGIN; UPDATE groups SET recovery = x''; PRAGMA user_version = 14; COMMIT"));
        std::filesystem::copy(directory.path(), crashed.path(), std::filesystem::copy_options::recursive);
    }
    REQUIRE(contents(crashed.path()).find(marker) != std::string::npos);
    const SqliteStore store = expect(SqliteStore::open(crashed.path()));
    REQUIRE(contents(crashed.path()).find(marker) == std::string::npos);
    // For `--check` of a former program, while this one runs.
    std::ifstream header(crashed / "store.db", std::ios::binary);
    REQUIRE(header.seekg(63).get() == 14);
}

TEST_CASE_METHOD(Fixture, "a permanent state ends the volatile one before it") {
    SqliteStore store = first_start();
    const VtpmRecord vtpm = some_vtpm();
    expect(edited(store, InsertVtpm{vtpm}));
    expect(write(store, some_state(vtpm.uuid, 1, StateKind::kVolatile)));
    REQUIRE(expect(store.find_state(vtpm.uuid, StateKind::kVolatile)));
    expect(write(store, some_state(vtpm.uuid, 1)));
    REQUIRE_FALSE(expect(store.find_state(vtpm.uuid, StateKind::kVolatile)));
}

TEST_CASE_METHOD(Fixture, "a store that cannot be written says so, loses nothing, and goes on when it can") {
    const int error = GENERATE(SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_READONLY);
    failing_vfs::Faults &faults = failing_vfs::faults();
    const VtpmRecord vtpm = some_vtpm();
    {
        SqliteStore store = first_start(failing_vfs::kName);
        expect(edited(store, InsertVtpm{vtpm}));
        expect(write(store, some_state(vtpm.uuid, 1)));
        faults.write_error = error;
        REQUIRE(expect_error(write(store, some_state(vtpm.uuid, 2))).code == ErrorCode::kStoreFailed);
        REQUIRE(expect_error(edited(store, InsertVtpm{some_vtpm()})).code == ErrorCode::kStoreFailed);
        REQUIRE(expect(store.find_vtpm(vtpm.uuid))->sequence == 1);
        faults.write_error = SQLITE_OK;
        expect(write(store, some_state(vtpm.uuid, 2)));
    }
    SqliteStore store = expect(SqliteStore::open(directory.path()));
    REQUIRE(expect(store.find_state(vtpm.uuid, StateKind::kPermanent))->envelope == Bytes(10'000, 2));
}

TEST_CASE_METHOD(Fixture, "a state whose fsync failed is not stored") {
    failing_vfs::Faults &faults = failing_vfs::faults();
    SqliteStore store = first_start(failing_vfs::kName);
    const VtpmRecord vtpm = some_vtpm();
    expect(edited(store, InsertVtpm{vtpm}));
    faults.sync_error = SQLITE_IOERR_FSYNC;
    REQUIRE(expect_error(write(store, some_state(vtpm.uuid, 1))).code == ErrorCode::kStoreFailed);
    REQUIRE(expect(store.find_vtpm(vtpm.uuid))->sequence == 0);
    faults.sync_error = SQLITE_OK;
    expect(write(store, some_state(vtpm.uuid, 1)));
    REQUIRE(expect(store.find_vtpm(vtpm.uuid))->sequence == 1);
}

TEST_CASE("a copy of a database has what was written while it was made, and nothing by half") {
    TemporaryDirectory directory;
    Database database = expect(Database::open(directory / "original"));
    expect(
        database.script("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
                        "CREATE TABLE pairs (one INTEGER, other INTEGER); CREATE TABLE bulk (bytes BLOB);"
                        "INSERT INTO pairs VALUES (0, 0)"));
    for (int i = 0; i < 400; ++i) expect(database.execute("INSERT INTO bulk VALUES (?)", ByteView(Bytes(4000, 1))));
    int writes = 0;
    const auto write = [&] {
        Transaction transaction = expect(Transaction::begin(database));
        expect(database.execute("UPDATE pairs SET one = one + 1"));
        expect(database.execute("UPDATE pairs SET other = other + 1"));
        expect(transaction.commit());
        ++writes;
    };
    expect(database.copy_to(directory / "copy", write));
    REQUIRE(writes > 3);
    write();  // this one comes too late
    Database copy = expect(Database::open(directory / "copy"));
    REQUIRE(expect(copy.integer("SELECT one FROM pairs")) == writes - 1);
    REQUIRE(expect(copy.integer("SELECT other FROM pairs")) == writes - 1);
    REQUIRE(expect(copy.integer("SELECT count(*) FROM bulk")) == 400);
    REQUIRE(expect_error(database.copy_to(directory / "none/copy", write)).code == ErrorCode::kStoreFailed);
}

TEST_CASE("a copy of the store is a store, and one that nobody took is gone with the next start") {
    TemporaryDirectory directory;
    std::string copy;
    std::string id;
    {
        SqliteStore store = expect(SqliteStore::open(directory.path()));
        id = store.id();
        copy = expect(store.back_up([] {}));
        REQUIRE(std::filesystem::status(copy).permissions() == std::filesystem::status(store.path()).permissions());
    }
    {
        TemporaryDirectory elsewhere;
        std::filesystem::copy_file(copy, elsewhere / "store.db");
        REQUIRE(expect(SqliteStore::open(elsewhere.path())).id() == id);
    }
    expect(SqliteStore::open(directory.path()));
    REQUIRE_FALSE(std::filesystem::exists(copy));
}

}  // namespace vtpm::store_test
