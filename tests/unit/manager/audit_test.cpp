// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/audit.hpp"

#include <algorithm>

#include "manager/groups/boot_policies.hpp"
#include "manager/store/database.hpp"
#include "manager_in_process.hpp"
#include "openssl_keys.hpp"
#include "temporary_directory.hpp"

namespace vtpm::audit_test {

namespace {

struct Manager : ManagerInProcess {
    BootPolicies policies{store, keys};

    Manager(const std::string &directory, FakeTpm &tpm) : ManagerInProcess(directory, tpm) { (void)keys.unlock(); }
    std::vector<std::string> events() {
        std::vector<std::string> events;
        for (const AuditRecord &record : expect(store.audit_records()))
            events.push_back(record.event + " " + record.subject);
        return events;
    }
    bool has(const std::string &event) {
        const auto all = events();
        return std::ranges::find(all, event) != all.end();
    }
};

struct Fixture {
    TemporaryDirectory directory;
    FakeTpm tpm;

    void run_sql(const char *sql) const { expect(expect(Database::open(directory / "store.db")).script(sql)); }
    Result<> verify() { return verify_chain(expect(Manager(directory.path(), tpm).store.audit_records())); }
};

// Many in each change: so a test takes no minute.
void record_many(Store &store, std::int64_t count) {
    constexpr std::int64_t kAtOnce = 1000;
    Audit audit(store);
    for (; count > 0; count -= kAtOnce)
        expect(store.commit([&](Change &change) -> Result<> {
            for (std::int64_t i = 0; i < kAtOnce; ++i) VTPM_TRY(audit.record(change, "tried", "something"));
            return {};
        }));
}

VtpmRecord some_vtpm() {
    VtpmRecord vtpm;
    vtpm.uuid = Uuid::random();
    vtpm.group = "default";
    vtpm.wrapped_key = {1};
    return vtpm;
}

}  // namespace

TEST_CASE_METHOD(Fixture, "each thing that is done has its record") {
    const VtpmRecord vtpm = some_vtpm();
    std::string policy;
    {
        Manager manager(directory.path(), tpm);
        expect(manager.keys.create({"tenant", {}, expect(ApproverKey::from_pem(public_pem(p256()))), 1}));
        const BootApproval approval{"tenant", expect(PcrSelection::parse("sha256:7")), {{7, Bytes(32, tpm.boot)}}};
        policy =
            expect(manager.policies.install(expect(BootPolicy::sign(view(private_pem(p256())), approval)).to_json()));
        expect(manager.policies.revoke(policy));
        expect(manager.inventory.insert(vtpm));
        expect(manager.inventory.remove(vtpm));
    }
    tpm.epochs[1].second[0] ^= 1;
    Manager manager(directory.path(), tpm);
    expect(manager.keys.accept_rollback("default"));
    expect(manager.keys.reseal({"default", expect(PcrSelection::parse("sha256:7")), {}, 1}));
    for (const std::string &event : {"store-begun " + manager.store.id(), std::string("group-created tenant"),
                                     "policy-installed " + policy, "policy-revoked " + policy,
                                     "vtpm-created " + vtpm.uuid.to_string(), "vtpm-destroyed " + vtpm.uuid.to_string(),
                                     std::string("group-refused default"), std::string("group-refused tenant"),
                                     std::string("rollback-accepted default"), std::string("group-resealed default")}) {
        CAPTURE(event);
        REQUIRE(manager.has(event));
    }
    REQUIRE_FALSE(manager.has("audit-log-altered default"));
    expect(verify_chain(expect(manager.store.audit_records())));
}

TEST_CASE_METHOD(Fixture, "what failed is not recorded as done") {
    Manager manager(directory.path(), tpm);
    const VtpmRecord vtpm = some_vtpm();
    expect(manager.inventory.insert(vtpm));
    const auto before = manager.events();
    REQUIRE_FALSE(manager.inventory.insert(vtpm));  // its row is there
    REQUIRE(manager.events() == before);
    expect(manager.inventory.remove(vtpm));  // and nothing is left half done
}

TEST_CASE_METHOD(Fixture, "a record that is changed or removed breaks the chain") {
    {
        Manager manager(directory.path(), tpm);
        for (int i = 0; i < 3; ++i) expect(manager.inventory.insert(some_vtpm()));
    }
    expect(verify());
    const std::string sql =
        GENERATE(as<std::string>(), "UPDATE audit SET detail = 'x' WHERE number = 2",
                 "UPDATE audit SET time = time + 1 WHERE number = 2", "UPDATE audit SET event = 'x' WHERE number = 1",
                 "UPDATE audit SET chain = zeroblob(32) WHERE number = 2", "DELETE FROM audit WHERE number = 1",
                 "DELETE FROM audit WHERE number = 2");
    CAPTURE(sql);
    run_sql(sql.c_str());
    REQUIRE_THAT(expect_error(verify()).text, Contains("record 1") || Contains("record 2"));
}

TEST_CASE_METHOD(Fixture, "a log that was cut, or written anew, is noticed, and that is recorded") {
    {
        Manager manager(directory.path(), tpm);
        expect(manager.inventory.insert(some_vtpm()));
        manager.keys.close();
    }
    run_sql(
        GENERATE("DELETE FROM audit WHERE number > 1", "DELETE FROM audit",
                 "DELETE FROM audit WHERE number > 1; INSERT INTO audit VALUES (2, 0, 'x', 'y', 'z', zeroblob(32))"));
    {
        Manager manager(directory.path(), tpm);
        expect(manager.keys.key("default"));  // the guests go on
        REQUIRE(manager.has("audit-log-altered default"));
    }
    Manager manager(directory.path(), tpm);
    REQUIRE(std::ranges::count(manager.events(), "audit-log-altered default") == 1);
}

TEST_CASE_METHOD(Fixture,
                 "the log does not grow for ever, and what was dropped for its age is told from what was removed") {
    {
        Manager manager(directory.path(), tpm);
        for (const int times : {1, 2}) {
            record_many(manager.store, Audit::kMostRecords);
            const auto records = expect(manager.store.audit_records());
            CAPTURE(times, records.size());
            REQUIRE(records.size() > Audit::kKeptRecords);
            REQUIRE(records.size() <= Audit::kMostRecords);
            expect(verify_chain(records));
        }
        manager.keys.close();
    }
    REQUIRE_FALSE(Manager(directory.path(), tpm).has("audit-log-altered default"));
    expect(verify());
    run_sql("DELETE FROM audit WHERE number = (SELECT min(number) FROM audit)");
    REQUIRE_THAT(expect_error(verify()).text, Contains("was removed"));
}

// Between its last opening and its next one.
void record_many_in(const std::string &directory, std::int64_t count) {
    SqliteStore store = expect(SqliteStore::open(directory));
    record_many(store, count);
}

TEST_CASE_METHOD(Fixture, "a group that was not opened while the log was shortened does not find it altered") {
    Manager(directory.path(), tpm).keys.close();
    record_many_in(directory.path(), Audit::kMostRecords);
    const bool removed = GENERATE(false, true);
    if (removed) run_sql("DELETE FROM audit WHERE number = (SELECT min(number) FROM audit)");
    REQUIRE(Manager(directory.path(), tpm).has("audit-log-altered default") == removed);
}

TEST_CASE_METHOD(Fixture, "a record that is not yet of the age at which they are dropped is missed") {
    Manager(directory.path(), tpm).keys.close();
    record_many_in(directory.path(), Audit::kMostRecords);
    Manager(directory.path(), tpm).keys.close();
    run_sql("UPDATE audit SET chain = randomblob(32) WHERE number > (SELECT max(number) - 20 FROM audit)");
    REQUIRE(Manager(directory.path(), tpm).has("audit-log-altered default"));
}

TEST_CASE_METHOD(Fixture, "a log whose numbers somebody changed to the last that there are is refused") {
    Manager(directory.path(), tpm).keys.close();
    run_sql("UPDATE audit SET number = 9223372036854775807 WHERE number = (SELECT max(number) FROM audit)");
    Manager manager(directory.path(), tpm);
    REQUIRE_THAT(expect_error(manager.keys.state()).text, Contains("somebody changed it"));
}

}  // namespace vtpm::audit_test
