// SPDX-License-Identifier: Apache-2.0
// Groups that somebody removes from the store with all that is of them, the hardware TPM's part too, or puts others in
// their place: the other groups' manifests know of them.
#include <algorithm>
#include <memory>

#include "failing_vfs.hpp"
#include "manager_in_process.hpp"
#include "quiet_errors.hpp"
#include "replica.hpp"
#include "temporary_directory.hpp"

namespace vtpm::group_list_test {
using AcceptRollback = GroupKeys::AcceptRollback;
using NewTpm = GroupKeys::NewTpm;
using Replace = GroupKeys::Replace;

namespace {

struct Fixture {
    TemporaryDirectory directory;
    TemporaryDirectory copy;
    FakeTpm tpm;
    const Uuid vtpm = Uuid::random();  // the tenant's

    Fixture() {
        const auto manager = start();
        expect(manager->keys.create({"tenant", expect(PcrSelection::parse("sha256:7")), {}, 1}));
        expect(manager->vtpms.create(vtpm, std::nullopt, "tenant"));
        manager->keys.close();
    }
    std::unique_ptr<ManagerInProcess> open(FakeTpm &with) {
        return std::make_unique<ManagerInProcess>(directory.path(), with);
    }
    std::unique_ptr<ManagerInProcess> start() {
        auto manager = open(tpm);
        expect(manager->keys.unlock());
        return manager;
    }
    // And all is well.
    void restart(std::unique_ptr<ManagerInProcess> &manager) {
        manager->keys.close();
        manager.reset();
        manager = start();
        expect(manager->keys.all_open());
    }
    std::unique_ptr<ManagerInProcess> open_all() {
        auto manager = open(tpm);
        (void)manager->keys.unlock();
        return manager;
    }
    void run_sql(const std::string &sql) const {
        expect(expect(Database::open(directory / "store.db")).script(sql.c_str()));
    }
    // Groups are created and removed while only one of them is open.
    void only(const char *open, const std::function<void(GroupKeys &)> &change) {
        run_sql(fmt::format("UPDATE groups SET pcrs = 'sha256:7' WHERE name != '{}'", open));
        tpm.refused = "sha256:7";
        run_sql(fmt::format("UPDATE groups SET pcrs = '' WHERE name = '{}'", open));
        {
            const auto manager = open_all();
            change(manager->keys);
            manager->keys.close();
        }
        tpm.refused.clear();
        run_sql("UPDATE groups SET pcrs = CASE name WHEN 'tenant' THEN 'sha256:7' ELSE '' END");
    }
    // By who has the disk and the TPM, while no manager runs.
    void remove_with_all(const std::string &group) {
        const auto groups = expect(expect(SqliteStore::open(directory.path())).groups());
        const std::uint32_t index = std::ranges::find(groups, group, &GroupRecord::name)->nv_index;
        run_sql(
            fmt::format("DELETE FROM states WHERE uuid IN (SELECT uuid FROM vtpms WHERE group_name = '{0}'); "
                        "DELETE FROM vtpms WHERE group_name = '{0}'; DELETE FROM groups WHERE name = '{0}'",
                        group));
        tpm.epochs.erase(index);
        tpm.counters.erase(FakeTpm::counter_of(index));
    }
    void is_missed(ManagerInProcess &manager) const {
        REQUIRE_THAT(manager.keys.lost(), Contains("group 'tenant'"));
        REQUIRE(expect_error(manager.keys.all_open()).code == ErrorCode::kRefused);
        REQUIRE_THAT(expect_error(manager.vtpms.prepare(vtpm)).text, Contains("group 'tenant'"));
        REQUIRE_FALSE(manager.vtpms.prepare(Uuid::random()));
    }
    // Somebody else begins a store of the same id in his directory, with this TPM.
    FakeTpm borrow_for(const TemporaryDirectory &his) {
        FakeTpm borrowed = tpm;
        borrowed.epochs.clear();
        replicate(directory, his);
        expect(expect(Database::open(his / "store.db"))
                   .script("DELETE FROM vtpms; DELETE FROM groups; DELETE FROM meta WHERE name != 'store_id'"));
        return borrowed;
    }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "a group that was removed with its rows and its NV indices is missed, until it is given up") {
    const QuietErrors quiet;
    remove_with_all("tenant");
    for (int i = 0; i < 2; ++i) {
        const auto manager = start();
        is_missed(*manager);
        REQUIRE_THAT(manager->keys.lost(), Contains("which the store does not have") &&
                                               Contains("xen-vtpm group delete --with-vtpms tenant"));
        REQUIRE(expect(manager->store.last_audit_record()).value().event == "group-lost");
        REQUIRE(expect_error(manager->keys.discard("nobody")).code == ErrorCode::kNotFound);
        manager->keys.close();
    }
    auto manager = start();
    expect(manager->keys.discard("tenant"));
    expect(manager->keys.all_open());
    expect(manager->vtpms.prepare(vtpm));
    REQUIRE(expect_error(manager->keys.discard("tenant")).code == ErrorCode::kNotFound);
    restart(manager);
}

// He knows the store's id, but not the groups' own.
TEST_CASE_METHOD(Fixture,
                 "a group that somebody else put into the store is known to nobody, whatever it says of others") {
    const QuietErrors quiet;
    const bool same_name = GENERATE(true, false);
    CAPTURE(same_name);
    const char *name = same_name ? "tenant" : "another";
    remove_with_all("tenant");
    TemporaryDirectory his;
    {
        FakeTpm borrowed = borrow_for(his);
        ManagerInProcess forger(his.path(), borrowed);
        expect(forger.keys.start_anew());
        expect(forger.keys.create({"spare", {}, {}, 1}));
        expect(forger.keys.create({name, {}, {}, 1}));
        GroupList list = expect(forger.keys.manifest(name))->terms().groups;
        list.number = 1000;
        list.ids.erase("default");
        list.ids.erase("spare");
        Manifest &manifest = *expect(forger.keys.manifest(name));
        manifest.remember(manifest.terms().id, list);
        const std::uint32_t index = expect(forger.keys.record(name)).nv_index;
        forger.keys.close();
        tpm.epochs[index] = borrowed.epochs.at(index);
        tpm.counters[index] = borrowed.counters.at(index);
    }
    run_sql(fmt::format("ATTACH '{}' AS his; INSERT INTO groups SELECT * FROM his.groups WHERE name = '{}'",
                        his / "store.db", name));
    auto manager = start();
    expect(manager->keys.key(name));
    REQUIRE_FALSE(manager->keys.all_open());
    REQUIRE_FALSE(manager->vtpms.prepare(vtpm));
    REQUIRE_FALSE(expect(manager->keys.manifest(name))->terms().groups.ids.contains("default"));
    REQUIRE(expect(manager->keys.manifest("default"))->terms().groups.number < 1000);
    if (!same_name) expect(manager->keys.discard("tenant"));
    REQUIRE_THAT(manager->keys.lost(), Contains(name) && Contains("do not know"));
    expect(manager->keys.remove(name));
    if (same_name) {
        is_missed(*manager);  // the one in whose place it was
        expect(manager->keys.discard("tenant"));
    }
    expect(manager->keys.all_open());
    restart(manager);
}

// They know each other, and are more than the others.
TEST_CASE_METHOD(Fixture,
                 "however many groups somebody else put into the store, they learn of no group, and all is told") {
    const QuietErrors quiet;
    const std::string names = "'a1', 'a2', 'a3'";
    TemporaryDirectory his;
    {
        FakeTpm borrowed = borrow_for(his);
        ManagerInProcess forger(his.path(), borrowed);
        expect(forger.keys.start_anew());
        for (const char *name : {"spare", "a1", "a2", "a3"}) expect(forger.keys.create({name, {}, {}, 1}));
        const std::uint32_t first = expect(forger.keys.record("a1")).nv_index;
        forger.keys.close();
        for (std::uint32_t index = first; index < first + 3; ++index) {
            tpm.epochs[index] = borrowed.epochs.at(index);
            tpm.counters[index] = borrowed.counters.at(index);
        }
    }
    run_sql(fmt::format("ATTACH '{}' AS his; INSERT INTO groups SELECT * FROM his.groups WHERE name IN ({})",
                        his / "store.db", names));
    auto manager = start();
    for (const char *name : {"a1", "a2", "a3", "default", "tenant"}) expect(manager->keys.key(name));
    REQUIRE_FALSE(manager->keys.all_open());
    REQUIRE_FALSE(manager->vtpms.prepare(Uuid::random()));
    REQUIRE_THAT(manager->keys.lost(),
                 Contains("a1, a2, a3") && Contains("do not know the group 'default'") && Contains("or them"));
    const Error error = expect_error(manager->keys.create({"new", {}, {}, 1}));
    REQUIRE(error.code == ErrorCode::kRefused);
    REQUIRE_THAT(error.text, Contains("do not know the group"));
    const Bytes id = expect(manager->keys.manifest("default"))->terms().id;
    for (const char *name : {"a1", "a2", "a3"}) {
        REQUIRE(expect(manager->keys.manifest(name))->terms().groups.ids.at("default") != id);
        expect(manager->keys.remove(name));
    }
    expect(manager->keys.all_open());
    expect(manager->keys.create({"new", {}, {}, 1}));
    restart(manager);
}

TEST_CASE_METHOD(Fixture, "an attempt to open that is cut short says of no vTPM that it is new, wherever that is") {
    const QuietErrors quiet;
    SECTION("before the hardware TPM was looked at") {
        tpm.epochs[77] = {};  // of a group that is gone
        tpm.lists = false;
        const auto manager = start();
        REQUIRE(expect_error(manager->keys.all_open()).code == ErrorCode::kUnavailable);
        REQUIRE_FALSE(manager->vtpms.prepare(Uuid::random()));
        tpm.lists = true;
        expect(manager->keys.unlock());
        REQUIRE(expect_error(manager->keys.all_open()).code == ErrorCode::kRefused);
    }
    SECTION("at any write") {
        run_sql("DELETE FROM vtpms");  // by who has the disk
        failing_vfs::Faults &faults = failing_vfs::faults();
        int cut = 0;
        for (int at = 0;; ++at) {
            CAPTURE(at);
            TemporaryDirectory place{TemporaryDirectory::fast()};
            replicate(directory, place);
            FakeTpm own = tpm;
            faults = {};
            auto store = expect(SqliteStore::open(place.path(), failing_vfs::kName));
            ManagerInProcess manager(std::move(store), own);
            faults.broken = failing_vfs::Broken::kFull;
            faults.at = at;
            faults.once = true;
            (void)manager.keys.unlock();
            const bool met = faults.met();
            faults = {};
            REQUIRE_FALSE(manager.vtpms.prepare(vtpm));
            cut += manager.keys.state() && !manager.keys.has("tenant") ? 1 : 0;
            if (!met) break;
        }
        REQUIRE(cut > 0);
    }
}

TEST_CASE_METHOD(Fixture, "a group whose id is not the one that others remember opens, and is unknown all the same") {
    const QuietErrors quiet;
    {
        const auto manager = start();
        Manifest &manifest = *expect(manager->keys.manifest("tenant"));
        manifest.remember(Bytes(16, 1), manifest.terms().groups);
        manager->keys.close();  // writes it
    }
    const auto manager = start();
    expect(manager->keys.key("tenant"));
    REQUIRE_THAT(manager->keys.lost(), Contains("do not know the group 'tenant'"));
    REQUIRE_FALSE(manager->vtpms.prepare(Uuid::random()));
    expect(manager->vtpms.prepare(vtpm));  // its manifest vouches for what it has
    expect(manager->keys.accept_rollback("tenant"));
    expect(manager->keys.all_open());
    REQUIRE(expect_error(manager->keys.accept_rollback("tenant")).code == ErrorCode::kWrongState);
    manager->keys.close();
}

TEST_CASE_METHOD(Fixture, "groups that come and go while another one is refused are known to it when it opens") {
    const QuietErrors quiet;
    const bool created = GENERATE(true, false);
    CAPTURE(created);
    if (!created) {
        const auto manager = start();
        expect(manager->keys.create({"third", {}, {}, 1}));
        manager->keys.close();
    }
    tpm.refused = "sha256:7";
    {
        const auto manager = start();
        REQUIRE_FALSE(manager->keys.key("tenant"));
        expect(created ? manager->keys.create({"third", {}, {}, 1}) : manager->keys.remove("third"));
        manager->keys.close();
    }
    tpm.refused.clear();
    {
        const auto manager = start();
        expect(manager->keys.all_open());
        REQUIRE(expect(manager->keys.manifest("tenant"))->terms().groups ==
                expect(manager->keys.manifest("default"))->terms().groups);
        REQUIRE(expect(manager->keys.manifest("tenant"))->terms().groups.ids.contains("third") == created);
        manager->keys.close();
    }
    expect(start()->keys.all_open());
}

// The first knows of the second's list, and only that one of the third's, which is the last.
TEST_CASE_METHOD(Fixture, "a list that only a group of a later list leads to is the one that holds") {
    const QuietErrors quiet;
    const auto refuse = [&](const char *group, const char *pcrs) {
        run_sql(fmt::format("UPDATE groups SET pcrs = '{}' WHERE name = '{}'", pcrs, group));
    };
    {
        const auto manager = start();
        expect(manager->keys.create({"between", {}, {}, 1}));
        expect(manager->keys.create({"gone", {}, {}, 1}));
        manager->keys.close();
    }
    tpm.refused = "sha256:7";
    refuse("default", "sha256:7");
    {
        const auto manager = start();
        expect(manager->keys.create({"last", {}, {}, 1}));
        manager->keys.close();
    }
    refuse("between", "sha256:7");
    {
        const auto manager = start();
        REQUIRE_FALSE(manager->keys.key("between"));
        expect(manager->keys.remove("gone"));
        manager->keys.close();
    }
    refuse("default", "");
    refuse("between", "");
    tpm.refused.clear();
    const auto manager = start();
    expect(manager->keys.all_open());
    const GroupList groups = expect(manager->keys.manifest("last"))->terms().groups;
    REQUIRE(groups.ids.size() == 4);
    for (const char *group : {"default", "tenant", "between"})
        REQUIRE(expect(manager->keys.manifest(group))->terms().groups == groups);
}

// Each has a list of the same number: what the one does not have, or has alone, is told of.
TEST_CASE_METHOD(Fixture, "groups that were changed apart from each other tell where they differ, until that is said") {
    const QuietErrors quiet;
    {
        const auto manager = start();
        expect(manager->keys.create({"third", {}, {}, 1}));
        manager->keys.close();
    }
    only("default", [](GroupKeys &keys) { expect(keys.create({"apart", {}, {}, 1})); });
    only("third", [](GroupKeys &keys) { expect(keys.create({"another", {}, {}, 1})); });
    auto manager = start();
    for (int told = 0; !manager->keys.all_open(); ++told) {
        REQUIRE(told < 4);
        REQUIRE_FALSE(manager->vtpms.prepare(Uuid::random()));
        const std::string lost = manager->keys.lost();
        CAPTURE(lost);
        REQUIRE_THAT(lost, Contains("do not know the group"));
        const std::string from = "accept-rollback ";
        expect(manager->keys.accept_rollback(lost.substr(lost.find(from) + from.size())));
    }
    REQUIRE(expect(manager->keys.manifest("third"))->terms().groups.ids.size() == 5);
    restart(manager);
}

// The first's list is the later one, but of another past.
TEST_CASE_METHOD(Fixture, "what a list has that a later one never had is not forgotten") {
    const QuietErrors quiet;
    {
        const auto manager = start();
        expect(manager->keys.create({"third", {}, {}, 1}));
        expect(manager->keys.create({"gone", {}, {}, 1}));
        manager->keys.close();
    }
    only("default", [](GroupKeys &keys) {
        expect(keys.create({"apart", {}, {}, 1}));
        expect(keys.discard("gone"));
    });
    only("third", [](GroupKeys &keys) { expect(keys.create({"another", {}, {}, 1})); });
    const bool removed = GENERATE(false, true);
    CAPTURE(removed);
    if (removed) {
        remove_with_all("another");
        auto manager = start();
        REQUIRE_THAT(manager->keys.lost(), Contains("the store does not have") && Contains("'another'"));
        manager->keys.close();
        manager.reset();
        manager = start();
        expect(manager->keys.discard("another"));
        restart(manager);
        return;
    }
    auto manager = start();
    expect(manager->keys.all_open());
    const GroupList groups = expect(manager->keys.manifest("third"))->terms().groups;
    for (const char *group : {"default", "tenant", "another", "apart"})
        REQUIRE(expect(manager->keys.manifest(group))->terms().groups == groups);
    REQUIRE(groups.ids.size() == 5);
    REQUIRE_FALSE(groups.ids.contains("gone"));
    REQUIRE(groups.gone.size() == 1);
    restart(manager);
    REQUIRE(expect(manager->keys.manifest("third"))->terms().groups.gone.empty());
}

TEST_CASE_METHOD(Fixture, "the only group that is left open tells of the others") {
    const QuietErrors quiet;
    run_sql("DELETE FROM groups WHERE name = 'default'");
    tpm.epochs.erase(1);
    const auto manager = start();
    REQUIRE_THAT(manager->keys.lost(), Contains("group 'default'"));
    REQUIRE_FALSE(manager->keys.all_open());
}

TEST_CASE_METHOD(Fixture, "groups that come, go and get another key leave all of them known") {
    const auto manager = start();
    const auto is_whole = [&] {
        expect(manager->keys.all_open());
        REQUIRE(expect(manager->keys.manifest("tenant"))->terms().groups ==
                expect(manager->keys.manifest("default"))->terms().groups);
    };
    expect(manager->keys.create({"third", {}, {}, 1}));
    is_whole();
    expect(manager->keys.rekey("tenant", GroupKeys::NewCa::kNo, *manager->vtpms.rotation()));
    is_whole();
    expect(manager->keys.remove("third"));
    is_whole();
    expect(manager->keys.create({"third", {}, {}, 1}));
    expect(manager->keys.reseal({"tenant", {}, {}, 1}));
    is_whole();
    manager->keys.close();
}

TEST_CASE_METHOD(Fixture, "a group that begins is missed by nobody while the TPM is asked") {
    const auto manager = start();
    int times = 0;
    tpm.at_epoch = [&] {
        ++times;
        expect(manager->keys.all_open());
        expect(manager->vtpms.prepare(Uuid::random()));
    };
    expect(manager->keys.create({"third", {}, {}, 1}));
    expect(manager->keys.rekey("third", GroupKeys::NewCa::kNo, *manager->vtpms.rotation()));
    REQUIRE(times == 2);
    tpm.at_epoch = nullptr;
    manager->keys.close();
}

TEST_CASE_METHOD(Fixture, "a group that was created while all others were refused is theirs when that is said") {
    const QuietErrors quiet;
    run_sql("UPDATE groups SET pcrs = 'sha256:7' WHERE name = 'default'");
    tpm.refused = "sha256:7";
    {
        const auto manager = open(tpm);
        REQUIRE_FALSE(manager->keys.unlock());
        expect(manager->keys.create({"third", {}, {}, 1}));
        REQUIRE_FALSE(manager->vtpms.prepare(vtpm));
        manager->keys.close();
    }
    run_sql("UPDATE groups SET pcrs = '' WHERE name = 'default'");
    tpm.refused.clear();
    auto manager = start();
    expect(manager->keys.key("default"));
    REQUIRE_THAT(manager->keys.lost(), Contains("do not know the group 'third'"));
    expect(manager->keys.accept_rollback("third"));
    expect(manager->keys.all_open());
    restart(manager);
}

TEST_CASE_METHOD(Fixture, "a store that moves to another TPM knows its groups there, one after the other") {
    const QuietErrors quiet;
    std::string keys[2];
    {
        const auto manager = start();
        keys[0] = expect(manager->keys.export_recovery_key("default", Replace::kNo));
        keys[1] = expect(manager->keys.export_recovery_key("tenant", Replace::kNo));
        manager->keys.close();
    }
    FakeTpm other{.identity = {'t', 'w', 'o'}};
    const auto recover = [&](ManagerInProcess &manager, const char *name, const std::string &key) {
        return manager.keys.recover(key, {{name, {}, {}, 1}, AcceptRollback::kNo, NewTpm::kYes});
    };
    {
        const auto manager = open(other);
        (void)manager->keys.unlock();
        expect(recover(*manager, "default", keys[0]));
        REQUIRE(expect_error(manager->keys.all_open()).code == ErrorCode::kRefused);
        expect(recover(*manager, "tenant", keys[1]));
        expect(manager->keys.all_open());
        manager->keys.close();
    }
    const auto manager = open(other);
    expect(manager->keys.unlock());
    expect(manager->keys.all_open());
}

TEST_CASE_METHOD(Fixture, "a group that is recovered on another TPM misses those that were removed on the way") {
    const QuietErrors quiet;
    std::string key;
    {
        const auto manager = start();
        key = expect(manager->keys.export_recovery_key("default", Replace::kNo));
        manager->keys.close();
    }
    remove_with_all("tenant");
    FakeTpm other{.identity = {'t', 'w', 'o'}};
    const auto manager = open(other);
    (void)manager->keys.unlock();
    expect(manager->keys.recover(key, {{"default", {}, {}, 1}, AcceptRollback::kNo, NewTpm::kYes}));
    is_missed(*manager);
}

// As a manifest of a former version has it: no id, no list.
TEST_CASE_METHOD(Fixture, "groups that know of no others learn of them when all are open") {
    const QuietErrors quiet;
    {
        const auto manager = start();
        for (const char *group : {"default", "tenant"})
            expect(manager->keys.manifest(group))->remember(Bytes(16, group[0]), {});
        expect(manager->keys.create({"third", {}, {}, 1}));  // joins in
        REQUIRE(expect(manager->keys.manifest("third"))->terms().groups.number == 0);
        manager->keys.close();
    }
    tpm.refused = "sha256:7";
    {
        const auto manager = start();
        REQUIRE(expect(manager->keys.manifest("default"))->terms().groups.number == 0);
        manager->keys.close();
    }
    tpm.refused.clear();
    {
        const auto manager = start();
        const GroupList groups = expect(manager->keys.manifest("third"))->terms().groups;
        REQUIRE(groups.number == 1);
        REQUIRE(groups.ids.size() == 3);
        REQUIRE(expect(manager->keys.manifest("tenant"))->terms().groups == groups);
        manager->keys.close();
    }
    remove_with_all("third");
    REQUIRE_THAT(start()->keys.lost(), Contains("group 'third'"));
}

}  // namespace vtpm::group_list_test
