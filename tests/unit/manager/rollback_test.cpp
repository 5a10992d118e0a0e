// SPDX-License-Identifier: Apache-2.0
// Who has the disk puts back what was there before: all of it, or a part.
#include <algorithm>
#include <filesystem>
#include <memory>

#include "engine_end.hpp"
#include "manager/store/database.hpp"
#include "manager_in_process.hpp"
#include "temporary_directory.hpp"

namespace vtpm::rollback_test {

namespace {

// A manager from its start to its end: destroyed it has crashed, unless stop() came first.
struct Manager : ManagerInProcess {
    using ManagerInProcess::ManagerInProcess;

    void stop() { keys.close(); }
    void store_state(const Uuid &uuid, std::uint8_t content, StateKind kind = StateKind::kPermanent) {
        EngineEnd engine(std::move(expect(vtpms.open(uuid)).channel));
        engine.send(StoreState{kind, Bytes(100, content)});
        turn();
        REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
        engine.close();
        turn();
    }
};

struct Fixture {
    TemporaryDirectory directory;
    TemporaryDirectory backup;
    FakeTpm tpm;
    const Uuid one = Uuid::random();
    const Uuid two = Uuid::random();

    // Two vTPMs with a state each, in a store that was in use.
    Fixture() {
        const auto manager = start();
        expect(manager->keys.create({"tenant", {}, {}, 1}));
        expect(manager->vtpms.create(one, std::nullopt));
        expect(manager->vtpms.create(two, std::nullopt, "tenant"));
        manager->store_state(one, 1);
        manager->store_state(two, 1);
        manager->stop();
    }

    std::unique_ptr<Manager> open() { return std::make_unique<Manager>(directory.path(), tpm); }
    std::unique_ptr<Manager> start() {
        auto manager = open();
        expect(manager->keys.unlock());
        return manager;
    }
    static void copy(const TemporaryDirectory &from, const TemporaryDirectory &to) {
        std::filesystem::copy(
            from.path(), to.path(),
            std::filesystem::copy_options::overwrite_existing | std::filesystem::copy_options::recursive);
    }
    void back_up() { copy(directory, backup); }
    void put_back() { copy(backup, directory); }
    void run_sql(const std::string &sql) const {
        expect(expect(Database::open(directory / "store.db")).script(sql.c_str()));
    }
    // Rows as they were in the backup.
    void put_back_rows(const std::string &sql) const {
        run_sql("ATTACH '" + (backup / "store.db") + "' AS old; " + sql);
    }
    std::string refusal(const std::string &group) {
        const auto manager = open();
        (void)manager->keys.unlock();
        return expect_error(manager->keys.key(group)).text;
    }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "a store that nobody touched opens, after a clean end and after a crash") {
    for (int i = 0; i < 3; ++i) start()->stop();
    for (int i = 0; i < 3; ++i) start();
    const auto manager = start();
    expect(manager->vtpms.prepare(one));
    manager->store_state(one, 2);
    manager->store_state(two, 2);
}

TEST_CASE_METHOD(Fixture, "an older copy of the store is refused once the manager has been started since") {
    back_up();
    start();  // and crashed
    put_back();
    for (const char *group : {"default", "tenant"})
        REQUIRE_THAT(refusal(group), Contains("not the store that this host last used") && Contains("accept-rollback"));
    REQUIRE_THAT(refusal("default"), Contains("later one"));  // it stays refused
}

TEST_CASE_METHOD(Fixture, "a copy taken while the manager ran is refused after a clean end") {
    {
        const auto manager = start();
        manager->store_state(one, 2);
        back_up();
        manager->store_state(one, 3);
        manager->stop();
    }
    put_back();
    REQUIRE_THAT(refusal("default"), Contains("last used"));
}

// No manifest of its own is left that would miss it, and its guests would get new TPMs of another group.
TEST_CASE_METHOD(Fixture, "a group that was removed with all its rows is missed") {
    back_up();
    run_sql("DELETE FROM states WHERE uuid = '" + two.to_string() +
            "'; DELETE FROM vtpms WHERE group_name = 'tenant'; DELETE FROM groups WHERE name = 'tenant'");
    {
        const auto manager = start();
        expect(manager->vtpms.prepare(one));
        const Error error = expect_error(manager->vtpms.prepare(two));
        REQUIRE(error.code == ErrorCode::kRefused);
        REQUIRE_THAT(error.text, Contains("a group 'tenant', which the store does not have") &&
                                     Contains("xen-vtpm create " + two.to_string()));
        REQUIRE_THAT(manager->keys.lost(), Contains("group 'tenant'") && Contains("group delete --with-vtpms tenant"));
        expect(manager->keys.discard("tenant"));  // the administrator says that it is gone for good
        REQUIRE_THAT(manager->keys.lost(), Contains("NV index 0x2"));
        tpm.epochs.erase(2);
        expect(manager->keys.open("default"));
        REQUIRE(manager->keys.lost().empty());
        expect(manager->vtpms.prepare(two));
        manager->stop();
    }
    REQUIRE(start()->keys.lost().empty());
}

TEST_CASE_METHOD(Fixture, "what the TPM keeps of a store that is lost is gone once the administrator says that it is") {
    TemporaryDirectory another;
    Manager manager(another.path(), tpm);
    REQUIRE_FALSE(manager.keys.unlock());
    expect(manager.keys.start_anew());
    REQUIRE(tpm.epochs.size() == 1);
    expect(manager.keys.open("default"));
    REQUIRE(manager.keys.lost().empty());
}

// It would undo each store of a vTPM, and no row would be another one than the manifest's before the next start.
TEST_CASE_METHOD(Fixture, "a store whose tables do more, or others, than ours is refused") {
    const char *change = GENERATE(
        "CREATE TRIGGER back AFTER UPDATE ON states BEGIN UPDATE states SET sequence = 1; END",
        "CREATE VIEW other AS SELECT * FROM vtpms", "CREATE INDEX other ON vtpms (tag)",
        "CREATE TABLE other (one INTEGER)", "DROP TABLE policies", "ALTER TABLE vtpms ADD COLUMN other TEXT",
        "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, 'sequence > 0', 'sequence = 1')");
    CAPTURE(change);
    run_sql(change);
    const Error error = expect_error(SqliteStore::open(directory.path()));
    REQUIRE(error.code == ErrorCode::kRefused);
    REQUIRE_THAT(error.text, Contains("somebody changed the database"));
}

// The window that docs/keys.md tells of.
TEST_CASE_METHOD(Fixture, "a copy taken since the start passes if the manager then crashed") {
    {
        const auto manager = start();
        back_up();
        manager->store_state(one, 2);
    }
    put_back();
    start();
}

TEST_CASE_METHOD(Fixture, "the administrator can take an older store as it is") {
    back_up();
    start();
    put_back();
    {
        const auto manager = open();
        REQUIRE_FALSE(manager->keys.unlock());
        REQUIRE_FALSE(manager->vtpms.prepare(one));
        expect(manager->keys.accept_rollback("default"));
        expect(manager->vtpms.prepare(one));
        REQUIRE_FALSE(manager->vtpms.prepare(two));  // of a group that he did not name
        expect(manager->keys.accept_rollback("tenant"));
        REQUIRE(expect_error(manager->keys.accept_rollback("tenant")).code == ErrorCode::kWrongState);
        manager->store_state(one, 4);
    }
    const auto manager = start();
    expect(manager->vtpms.prepare(one));
    expect(manager->vtpms.prepare(two));
}

TEST_CASE_METHOD(Fixture, "a name that somebody wrote into the store means no vTPM in the place of another") {
    const Uuid third = Uuid::random();
    {
        const auto manager = start();
        expect(manager->vtpms.create(third, std::nullopt));
        expect(manager->vtpms.set_alias(one, "web"));
        manager->stop();
    }
    run_sql("UPDATE vtpms SET alias = 'web', guest = 'web'");
    const auto manager = open();
    (void)manager->keys.unlock();
    REQUIRE(expect_error(manager->vtpms.find("web")).code == ErrorCode::kInvalid);
    // Of two groups, the locked one's rows do not count.
    expect(manager->keys.accept_rollback("default"));
    const Error both = expect_error(manager->vtpms.find("web"));
    REQUIRE(both.code == ErrorCode::kInvalid);
    REQUIRE_THAT(both.text, Contains(one.to_string()) && Contains(third.to_string()) && !Contains(two.to_string()));
    expect(manager->vtpms.set_alias(third, ""));
    REQUIRE(expect(manager->vtpms.find("web")) == one);
}

TEST_CASE_METHOD(Fixture, "a vTPM's rows that are put back refuse its group, and no other") {
    back_up();
    {
        const auto manager = start();
        manager->store_state(one, 2);
        manager->stop();
    }
    put_back_rows(
        "INSERT OR REPLACE INTO states SELECT * FROM old.states; INSERT OR REPLACE INTO vtpms SELECT * FROM old.vtpms");
    REQUIRE_THAT(refusal("default"), Contains("not as it was last written"));
    const auto manager = open();
    expect(manager->keys.unlock());
    expect(manager->vtpms.prepare(two));
    REQUIRE(expect_error(manager->vtpms.prepare(one)).code == ErrorCode::kRefused);
}

TEST_CASE_METHOD(Fixture, "a vTPM that was removed from a refused group's rows does not come up as a new one") {
    run_sql(
        fmt::format("DELETE FROM states WHERE uuid = '{0}'; DELETE FROM vtpms WHERE uuid = '{0}'", two.to_string()));
    const auto manager = start();
    REQUIRE_THAT(expect_error(manager->vtpms.prepare(two)).text,
                 Contains("unknown") && Contains("group 'tenant' is refused") && Contains("xen-vtpm create"));
    REQUIRE(expect_error(manager->vtpms.open(two)).code == ErrorCode::kNotFound);
    expect(manager->vtpms.prepare(one));
    expect(manager->vtpms.create(Uuid::random(), std::nullopt));  // the administrator may know that it is new
}

TEST_CASE_METHOD(Fixture, "a state that is put back refuses its vTPM only") {
    const Uuid other = Uuid::random();
    back_up();
    {
        const auto manager = start();
        expect(manager->vtpms.create(other, std::nullopt));
        manager->store_state(one, 2);
        manager->stop();
    }
    put_back_rows("INSERT OR REPLACE INTO states SELECT * FROM old.states");
    const auto manager = start();
    REQUIRE_THAT(expect_error(manager->vtpms.prepare(one)).text, Contains("put back"));
    expect(manager->vtpms.prepare(other));
}

TEST_CASE_METHOD(Fixture, "a volatile state that was used is not used again") {
    start()->store_state(one, 5, StateKind::kVolatile);
    back_up();
    {
        const auto manager = start();
        EngineEnd engine(std::move(expect(manager->vtpms.open(one)).channel));
        engine.load(StateKind::kVolatile);
        manager->turn();
        REQUIRE(engine.receive<LoadedState>().code == ErrorCode::kNone);
    }
    put_back_rows("INSERT OR REPLACE INTO states SELECT * FROM old.states WHERE kind = 2");
    const auto manager = start();
    EngineEnd engine(std::move(expect(manager->vtpms.open(one)).channel));
    engine.load(StateKind::kVolatile);
    manager->turn();
    REQUIRE(engine.receive<LoadedState>().code == ErrorCode::kRefused);
}

TEST_CASE_METHOD(Fixture, "whatever else is changed in the inventory refuses the group") {
    const std::string sql = GENERATE(
        as<std::string>(), "DELETE FROM states; DELETE FROM vtpms",
        "UPDATE vtpms SET sequence = 0, tag = x''; DELETE FROM states", "UPDATE vtpms SET tpm_version = '1.2'",
        "UPDATE vtpms SET pcr_banks = 'sha1,sha256,sha384'", "UPDATE vtpms SET algorithms = 'sha1'",
        "UPDATE vtpms SET created = 0", "UPDATE vtpms SET group_name = iif(group_name = 'tenant', 'default', 'tenant')",
        "UPDATE vtpms SET volatile_sequence = 7", "UPDATE vtpms SET wrapped_key = x'00'",
        "UPDATE vtpms SET endorsement = x'00'", "UPDATE vtpms SET endorsement = x'80'",
        "UPDATE vtpms SET alias = 'web'", "UPDATE vtpms SET guest = 'web'", "UPDATE vtpms SET last_used = 1",
        "UPDATE groups SET manifest = x''", "UPDATE groups SET manifest = substr(manifest, 1, 60)");
    CAPTURE(sql);
    run_sql(sql);
    for (const char *group : {"default", "tenant"}) REQUIRE_THAT(refusal(group), Contains("accept-rollback"));
}

TEST_CASE_METHOD(Fixture, "a group whose NV index is changed in the store is sealed for another counter") {
    run_sql(GENERATE("UPDATE groups SET nv_index = 0", "UPDATE groups SET nv_index = 3 - nv_index"));
    const auto counters = tpm.counters;
    for (const char *group : {"default", "tenant"}) REQUIRE_THAT(refusal(group), Contains("count"));
    REQUIRE(tpm.counters == counters);
}

TEST_CASE_METHOD(Fixture, "another group's manifest is not this one's") {
    run_sql("UPDATE groups SET manifest = (SELECT manifest FROM groups g WHERE g.name = 'default')");
    REQUIRE_THAT(refusal("tenant"), Contains("damaged or not its own"));
    start();
}

TEST_CASE_METHOD(Fixture, "what the hardware TPM keeps is gone or of another: refused until it is accepted") {
    if (GENERATE(true, false))
        tpm.epochs.clear();
    else
        for (auto &[index, epoch] : tpm.epochs) epoch.first[0] ^= 1;
    REQUIRE_FALSE(refusal("default").empty());
    REQUIRE(tpm.epochs.size() != 1);
    auto manager = open();
    (void)manager->keys.unlock();
    expect(manager->keys.accept_rollback("default"));
    expect(manager->keys.accept_rollback("tenant"));
    manager.reset();
    expect(start()->keys.key("tenant"));
}

TEST_CASE_METHOD(Fixture, "a store that is gone altogether is not begun anew without a word") {
    std::filesystem::remove_all(directory.path());
    std::filesystem::create_directory(directory.path());
    auto manager = open();
    REQUIRE_THAT(expect_error(manager->keys.unlock()).text, Contains("remembers one") && Contains("store reset"));
    REQUIRE_FALSE(manager->vtpms.prepare(one));
    expect(manager->keys.start_anew());
    expect(manager->vtpms.prepare(one));
    REQUIRE(expect_error(manager->keys.start_anew()).code == ErrorCode::kInvalid);
    manager.reset();
    start();
}

TEST_CASE_METHOD(Fixture, "a group that is lost can be given up, with its vTPMs, and begun again") {
    run_sql("UPDATE groups SET private_area = x'00'");  // no TPM opens that
    {
        const auto manager = open();
        REQUIRE_FALSE(manager->keys.unlock());
        REQUIRE(expect_error(manager->keys.remove("tenant")).code == ErrorCode::kRefused);
        expect(manager->keys.discard("default"));
        expect(manager->keys.discard("tenant"));
        REQUIRE(expect_error(manager->keys.discard("tenant")).code == ErrorCode::kNotFound);
        REQUIRE(tpm.epochs.empty());
        REQUIRE_FALSE(manager->vtpms.prepare(one));  // nothing is made anew without being asked for
        expect(manager->keys.create({"default", {}, {}, 1}));
        expect(manager->vtpms.create(one, std::nullopt));
        REQUIRE(expect_error(manager->keys.discard("default")).code == ErrorCode::kWrongState);
    }
    expect(start()->vtpms.prepare(one));
}

TEST_CASE_METHOD(Fixture, "a crash while the epoch moves leaves a store that opens") {
    for (const FakeTpm::Crash crash : {FakeTpm::Crash::kBeforeEpoch, FakeTpm::Crash::kAfterEpoch}) {
        tpm.crash = crash;
        REQUIRE_FALSE(open()->keys.unlock());
        tpm.crash = FakeTpm::Crash::kNone;
        start();
        {
            const auto manager = start();
            tpm.crash = crash;
            manager->stop();
            tpm.crash = FakeTpm::Crash::kNone;
        }
        start();
    }
}

TEST_CASE("a crash in the first start leaves a store that opens") {
    const TemporaryDirectory directory;
    FakeTpm tpm;
    tpm.crash = GENERATE(FakeTpm::Crash::kBeforeEpoch, FakeTpm::Crash::kAfterEpoch, FakeTpm::Crash::kBeforeCount,
                         FakeTpm::Crash::kAfterCount);
    REQUIRE_FALSE(Manager(directory.path(), tpm).keys.unlock());
    tpm.crash = FakeTpm::Crash::kNone;
    expect(Manager(directory.path(), tpm).keys.unlock());
}

namespace {

// Refused, whatever the TPM keeps of it, and whatever of it stands beside what is there now.
void is_no_way_back(const TemporaryDirectory &early, const TemporaryDirectory &directory, FakeTpm tpm) {
    const bool removed = GENERATE(false, true);
    const bool mixed = GENERATE(false, true);
    CAPTURE(removed, mixed);
    if (removed) tpm.epochs.clear();
    if (mixed)
        expect(
            expect(Database::open(directory / "store.db"))
                .script(
                    ("ATTACH '" + (early / "store.db") +
                     "' AS early; DELETE FROM states; DELETE FROM vtpms; INSERT INTO vtpms SELECT * FROM early.vtpms; "
                     "INSERT INTO states SELECT * FROM early.states; UPDATE groups SET manifest = (SELECT manifest "
                     "FROM early.groups e WHERE e.name = groups.name)")
                        .c_str()));
    else
        Fixture::copy(early, directory);
    Manager manager(directory.path(), tpm);
    (void)manager.keys.unlock();
    REQUIRE(expect_error(manager.keys.key("default")).code == ErrorCode::kRefused);
}

}  // namespace

TEST_CASE("a copy of the store from its first start is no way back") {
    const TemporaryDirectory directory;
    const TemporaryDirectory early;
    FakeTpm tpm;
    tpm.crash = GENERATE(FakeTpm::Crash::kBeforeEpoch, FakeTpm::Crash::kAfterEpoch, FakeTpm::Crash::kBeforeCount,
                         FakeTpm::Crash::kAfterCount);
    CAPTURE(static_cast<int>(tpm.crash));
    REQUIRE_FALSE(Manager(directory.path(), tpm).keys.unlock());
    tpm.crash = FakeTpm::Crash::kNone;
    Fixture::copy(directory, early);
    {
        Manager manager(directory.path(), tpm);
        expect(manager.keys.unlock());
        const Uuid uuid = expect(manager.vtpms.create(std::nullopt, std::nullopt));
        manager.store_state(uuid, 1);
        manager.stop();
    }
    is_no_way_back(early, directory, tpm);
}

TEST_CASE_METHOD(Fixture, "a copy of the store from a recovery on another TPM is no way back") {
    std::string recovery_key;
    {
        const auto manager = start();
        recovery_key = expect(manager->keys.export_recovery_key("default", GroupKeys::Replace::kNo));
        manager->stop();
    }
    FakeTpm next{.identity = {'n', 'e', 'x', 't'}};
    next.crash = GENERATE(FakeTpm::Crash::kBeforeEpoch, FakeTpm::Crash::kAfterEpoch, FakeTpm::Crash::kBeforeCount,
                          FakeTpm::Crash::kAfterCount);
    CAPTURE(static_cast<int>(next.crash));
    const GroupKeys::RecoveryOrder order{
        {"default", {}, {}, 1}, GroupKeys::AcceptRollback::kNo, GroupKeys::NewTpm::kYes};
    REQUIRE_FALSE(Manager(directory.path(), next).keys.recover(recovery_key, order));
    back_up();
    next.crash = FakeTpm::Crash::kNone;
    {
        Manager manager(directory.path(), next);
        expect(manager.keys.unlock());
        manager.store_state(one, 2);
        manager.stop();
    }
    is_no_way_back(backup, directory, next);
}

TEST_CASE_METHOD(Fixture, "a copy of the store from when an older one was accepted is no way back") {
    back_up();
    start();
    put_back();
    tpm.crash = GENERATE(FakeTpm::Crash::kBeforeEpoch, FakeTpm::Crash::kAfterEpoch);
    CAPTURE(static_cast<int>(tpm.crash));
    {
        const auto manager = open();
        REQUIRE_FALSE(manager->keys.unlock());
        REQUIRE_FALSE(manager->keys.accept_rollback("default"));
        back_up();
        tpm.crash = FakeTpm::Crash::kNone;
        expect(manager->keys.accept_rollback("default"));
        manager->store_state(one, 2);
        manager->stop();
    }
    is_no_way_back(backup, directory, tpm);
}

TEST_CASE_METHOD(Fixture, "a group that cannot get an epoch or a count is not created") {
    const auto manager = start();
    tpm.crash = GENERATE(FakeTpm::Crash::kBeforeEpoch, FakeTpm::Crash::kBeforeCount, FakeTpm::Crash::kAfterCount);
    REQUIRE_FALSE(manager->keys.create({"third", {}, {}, 1}));
    tpm.crash = FakeTpm::Crash::kNone;
    expect(manager->keys.create({"third", {}, {}, 1}));
    expect(manager->keys.remove("third"));
    REQUIRE(tpm.epochs.size() == 2);
    REQUIRE(tpm.counters.size() == 2);
}

}  // namespace vtpm::rollback_test
