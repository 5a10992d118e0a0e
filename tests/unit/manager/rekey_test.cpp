// SPDX-License-Identifier: Apache-2.0
// A group that gets another key: what the former keys open afterwards, and what a crash leaves.
#include <algorithm>
#include <map>
#include <memory>

#include "engine_end.hpp"
#include "manager/vtpm/key_rotation.hpp"
#include "manager/vtpm/stored_state.hpp"
#include "manager_in_process.hpp"
#include "openssl_keys.hpp"
#include "quiet_errors.hpp"
#include "replica.hpp"
#include "temporary_directory.hpp"

namespace vtpm::rekey_test {
using NewCa = GroupKeys::NewCa;
using NewTpm = GroupKeys::NewTpm;
using AcceptRollback = GroupKeys::AcceptRollback;
using Replace = GroupKeys::Replace;
using Crash = FakeTpm::Crash;

namespace {

Bytes state_of(std::uint8_t content) { return Bytes(100, content); }

Key copied(const Key &key) { return expect(key_from(key.view())); }

struct Manager : ManagerInProcess {
    using ManagerInProcess::ManagerInProcess;

    Result<> rekey(const std::string &group, NewCa new_ca = NewCa::kNo) {
        return keys.rekey(group, new_ca, *vtpms.rotation());
    }
    EngineEnd open(const Uuid &uuid) { return EngineEnd(std::move(expect(vtpms.open(uuid)).channel)); }
    void store_state(EngineEnd &engine, std::uint8_t content, StateKind kind = StateKind::kPermanent) {
        engine.send(StoreState{kind, state_of(content)});
        turn();
        REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
    }
    void store_state(const Uuid &uuid, std::uint8_t content) {
        EngineEnd engine = open(uuid);
        store_state(engine, content);
        engine.close();
        turn();
    }
    Bytes load(EngineEnd &engine, StateKind kind = StateKind::kPermanent) {
        engine.load(kind);
        turn();
        const auto loaded = engine.receive<LoadedState>();
        REQUIRE(loaded.code == ErrorCode::kNone);
        return {loaded.state.begin(), loaded.state.end()};
    }
    Bytes state(const Uuid &uuid) {
        EngineEnd engine = open(uuid);
        Bytes content = load(engine);
        engine.close();
        turn();
        return content;
    }
    VtpmRecord row(const Uuid &uuid) { return expect(store.find_vtpm(uuid)).value(); }
    Bytes envelope(const Uuid &uuid) { return expect(store.find_state(uuid, StateKind::kPermanent)).value().envelope; }
    GroupRecord group(const std::string &name = "default") { return expect(keys.record(name)); }
    bool is_rekeyed() {
        return std::ranges::any_of(expect(store.audit_records()),
                                   [](const AuditRecord &record) { return record.event == "group-rekeyed"; });
    }
};

// Two vTPMs of the default group, of which one never ran, and one of a tenant's.
struct Fixture {
    TemporaryDirectory directory;
    TemporaryDirectory copy;
    FakeTpm tpm;
    const Uuid one = Uuid::random();
    const Uuid fresh = Uuid::random();
    const Uuid two = Uuid::random();
    std::string recovery_key;

    Fixture() {
        const auto manager = start();
        expect(manager->keys.create({"tenant", {}, {}, 1}));
        expect(manager->vtpms.create(one, std::nullopt));
        expect(manager->vtpms.create(fresh, std::nullopt));
        expect(manager->vtpms.create(two, std::nullopt, "tenant"));
        manager->store_state(one, 1);
        manager->store_state(two, 2);
        recovery_key = expect(manager->keys.export_recovery_key("default", Replace::kNo));
        manager->keys.close();
    }
    std::unique_ptr<Manager> open(FakeTpm &with) { return std::make_unique<Manager>(directory.path(), with); }
    std::unique_ptr<Manager> open() { return open(tpm); }
    std::unique_ptr<Manager> start() {
        auto manager = open();
        expect(manager->keys.unlock());
        return manager;
    }
    void back_up() { replicate(directory, copy); }
    void put_back() { replicate(copy, directory); }
    void run_sql(const std::string &sql) const {
        expect(expect(Database::open(directory / "store.db")).script(sql.c_str()));
    }
    // Of each group the TPM keeps what one group needs.
    void has_no_remains() const {
        REQUIRE(tpm.epochs.size() == 2);
        REQUIRE(tpm.counters.size() == 2);
    }
};

GroupKeys::RecoveryOrder order_for(const std::string &group, AcceptRollback accept, NewTpm new_tpm = NewTpm::kNo) {
    return {{group, {}, {}, 1}, accept, new_tpm};
}

}  // namespace

TEST_CASE_METHOD(Fixture, "a group with another key has its vTPMs as they were, at once and after each start") {
    {
        const auto manager = start();
        for (int i = 0; i < 2; ++i) {
            expect(manager->rekey("default"));
            REQUIRE(manager->state(one) == state_of(1));
            REQUIRE(manager->state(two) == state_of(2));
            expect(manager->vtpms.prepare(fresh));
            has_no_remains();
        }
        REQUIRE_FALSE(manager->group("tenant").nv_index == manager->group().nv_index);
        expect(verify_chain(expect(manager->store.audit_records())));
    }
    for (int i = 0; i < 2; ++i) {
        const auto manager = start();
        REQUIRE(manager->state(one) == state_of(1));
        manager->store_state(one, 1);
        manager->store_state(fresh, 3);
        manager->keys.close();
    }
    has_no_remains();
    REQUIRE(start()->keys.lost().empty());
}

TEST_CASE_METHOD(Fixture, "a guest that runs goes on, also with what waits for its commit in that moment") {
    const auto manager = start();
    EngineEnd engine = manager->open(one);
    EngineEnd new_engine = manager->open(fresh);
    manager->store_state(engine, 4, StateKind::kVolatile);
    engine.send(StoreState{StateKind::kPermanent, state_of(5)});
    REQUIRE(sd_event_run(manager->loop.raw(), 0) > 0);  // received, and not committed
    REQUIRE(manager->row(one).sequence == 1);
    expect(manager->rekey("default"));
    manager->turn();
    REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
    REQUIRE(manager->row(one).sequence == 2);
    REQUIRE(manager->load(engine) == state_of(5));
    manager->store_state(engine, 6);
    manager->store_state(engine, 7, StateKind::kVolatile);
    manager->store_state(new_engine, 8);
    expect(manager->rekey("default"));
    REQUIRE(manager->load(engine) == state_of(6));
    REQUIRE(manager->load(engine, StateKind::kVolatile) == state_of(7));
    REQUIRE(manager->load(new_engine) == state_of(8));
    manager->store_state(engine, 9);
    engine.close();
    new_engine.close();
    manager->turn();
    REQUIRE(manager->state(one) == state_of(9));
}

namespace {

// Beside those of the fixture, more than are staged at once.
struct Many : Fixture {
    static constexpr int kVtpms = 100;
    std::vector<Uuid> vtpms;
    std::map<Uuid, std::uint8_t> states;  // what each was last stored

    Many() {
        const auto manager = start();
        const Key &group_key = *expect(manager->keys.key("default"));
        for (int i = 0; i < kVtpms; ++i) {
            const Uuid uuid = expect(manager->vtpms.create(std::nullopt, std::nullopt));
            const VtpmIdentity identity{uuid, TpmVersion::k20, "default"};
            const Key key = expect(key_of(group_key, manager->row(uuid)));
            for (const StateKind kind : {StateKind::kPermanent, StateKind::kVolatile})
                expect(write(manager->inventory,
                             {uuid, "default", kind, 1, expect(seal_state(key, identity, kind, 1, state_of(5)))}));
            vtpms.push_back(uuid);
            states[uuid] = 5;
        }
        std::ranges::sort(vtpms);
        manager->keys.close();
    }
    void check(Manager &manager) const {
        const Key &group_key = *expect(manager.keys.key("default"));
        for (const auto &[uuid, content] : states) {
            CAPTURE(uuid.to_string());
            const VtpmRecord row = manager.row(uuid);
            expect(manager.inventory.verify(row));
            const Key key = expect(key_of(group_key, row));
            const auto state = expect(open_stored_state(manager.store, row, key, StateKind::kPermanent));
            REQUIRE(std::ranges::equal(state.view(), state_of(content)));
            if (!row.volatile_tag.empty()) expect(open_stored_state(manager.store, row, key, StateKind::kVolatile));
        }
        expect(verify_chain(expect(manager.store.audit_records())));
    }
};

}  // namespace

TEST_CASE_METHOD(Many, "guests have their turns while a group gets another key, and what they change goes along") {
    auto manager = start();
    const Key former = copied(*expect(manager->keys.key("default")));
    EngineEnd engine = manager->open(vtpms.back());
    const Uuid created = Uuid::random();
    int turns = 0;
    manager->between = [&] {
        const auto content = static_cast<std::uint8_t>(10 + turns);
        manager->store_state(engine, content);
        states[vtpms.back()] = content;
        if (turns++ != 1) return;
        // Those that were staged first, and are not as they were.
        manager->store_state(vtpms[0], states[vtpms[0]] = 7);
        expect(manager->vtpms.prepare(vtpms[1]));  // ends its volatile state
        expect(manager->vtpms.set_launch(vtpms[2], LaunchPolicy::kOff));
        expect(manager->vtpms.destroy(vtpms[3]));
        states.erase(vtpms[3]);
        expect(manager->vtpms.create(created, std::nullopt));
        manager->store_state(created, states[created] = 8);
        manager->store_state(two, 2);  // of another group
    };
    expect(manager->rekey("default"));
    REQUIRE(turns >= kVtpms / static_cast<int>(KeyRotation::kAtOnce));
    manager->between = nullptr;
    REQUIRE_FALSE(expect(manager->store.has_staged("default")));
    for (const auto &[uuid, content] : states) REQUIRE_FALSE(key_of(former, manager->row(uuid)));
    REQUIRE(manager->row(vtpms[2]).launch == LaunchPolicy::kOff);
    REQUIRE_FALSE(expect(manager->store.find_vtpm(vtpms[3])));
    check(*manager);
    manager->store_state(engine, states[vtpms.back()] = 9);
    engine.close();
    manager->keys.close();
    manager.reset();
    check(*start());
}

TEST_CASE_METHOD(Many, "after a crash between any two steps of a rekey all vTPMs are there, and it can be done again") {
    struct Crashed {
        TemporaryDirectory directory;
        FakeTpm tpm;
    };
    std::vector<std::unique_ptr<Crashed>> crashes;
    {
        const auto manager = start();
        manager->between = [&] {
            crashes.push_back(std::make_unique<Crashed>());
            replicate(directory, crashes.back()->directory);
            crashes.back()->tpm = tpm;
        };
        expect(manager->rekey("default"));
    }
    int adopted = 0;
    for (const auto &crashed : crashes) {
        Manager manager(crashed->directory.path(), crashed->tpm);
        expect(manager.keys.unlock());
        adopted += manager.is_rekeyed() ? 1 : 0;
        check(manager);
        expect(manager.keys.merge_staged());
        REQUIRE_FALSE(expect(manager.store.has_staged("default")));
        check(manager);
        expect(manager.rekey("default"));
        check(manager);
    }
    REQUIRE(adopted > 0);
    REQUIRE(crashes.size() - static_cast<std::size_t>(adopted) > 2);
}

TEST_CASE_METHOD(Many, "a vTPM that was adopted and not merged yet is served, changes, and goes like any other") {
    const auto manager = start();
    bool met = false;
    manager->between = [&] {
        if (!manager->is_rekeyed() || std::exchange(met, true)) return;
        check(*manager);
        REQUIRE(expect(manager->store.has_staged("default")));
        // The last ones in the order in which they are merged.
        const std::size_t last = vtpms.size() - 1;
        manager->store_state(vtpms[last], states[vtpms[last]] = 7);
        expect(manager->vtpms.prepare(vtpms[last - 1]));
        expect(manager->vtpms.set_launch(vtpms[last - 2], LaunchPolicy::kOff));
        expect(manager->vtpms.destroy(vtpms[last - 3]));
        states.erase(vtpms[last - 3]);
        REQUIRE(expect(manager->vtpms.list()).damaged.empty());
        check(*manager);
    };
    expect(manager->rekey("default"));
    REQUIRE(met);
    REQUIRE_FALSE(expect(manager->store.has_staged("default")));
    check(*manager);
}

TEST_CASE_METHOD(Many, "a rekey that the manager's end cuts leaves the group as it was, and nothing beside it") {
    const auto manager = start();
    int steps = 0;
    manager->between = [&] { manager->ends = ++steps == 2; };
    const Error error = expect_error(manager->rekey("default"));
    REQUIRE_THAT(error.text, Contains("keeps its key") && Contains("the manager ends"));
    REQUIRE_FALSE(manager->is_rekeyed());
    check(*manager);
    manager->between = nullptr;
    manager->ends = false;
    expect(manager->keys.merge_staged());
    REQUIRE_FALSE(expect(manager->store.has_staged("default")));
    expect(manager->rekey("default"));
    check(*manager);
}

TEST_CASE_METHOD(Many, "other groups come, go and are sealed anew while a group gets another key") {
    auto manager = start();
    int steps = 0;
    manager->between = [&] {
        if (steps++ != 1) return;
        REQUIRE_THAT(expect_error(manager->rekey("tenant")).text,
                     Contains("group 'default' gets another key just now"));
        REQUIRE_THAT(expect_error(manager->rekey("default")).text, Contains("just now"));
        expect(manager->keys.create({"third", {}, {}, 1}));
        expect(manager->keys.reseal({"tenant", expect(PcrSelection::parse("sha256:7")), {}, 1}));
        expect(manager->keys.unlock());  // what the TPM has beside the groups' own is not the next key's yet
        expect(manager->keys.merge_staged());
    };
    expect(manager->rekey("default"));
    REQUIRE(steps > 1);
    manager->between = nullptr;
    REQUIRE(manager->keys.lost().empty());
    expect(manager->keys.remove("third"));
    manager->keys.close();
    manager.reset();
    const auto again = start();
    REQUIRE(again->keys.lost().empty());
    check(*again);
    has_no_remains();
}

TEST_CASE_METHOD(Many, "a group that changes itself while it gets another key keeps the one that it has") {
    auto manager = start();
    int steps = 0;
    const int change = GENERATE(0, 1, 2);
    CAPTURE(change);
    if (change == 2) tpm.signs = true;
    manager->between = [&] {
        if (steps++ != 1) return;
        if (change == 0) expect(manager->keys.reseal({"default", expect(PcrSelection::parse("sha256:7")), {}, 1}));
        if (change == 1) expect(manager->keys.export_recovery_key("default", Replace::kYes));
        if (change == 2) expect(manager->authorities.show("default"));
    };
    const Error error = expect_error(manager->rekey("default"));
    REQUIRE(error.code == ErrorCode::kInUse);
    REQUIRE_THAT(error.text, Contains("keeps its key") && Contains("say it again"));
    REQUIRE_FALSE(manager->is_rekeyed());
    manager->between = nullptr;
    REQUIRE_FALSE(expect(manager->store.has_staged("default")));
    check(*manager);
    expect(manager->rekey("default"));
    check(*manager);
    manager->keys.close();
    manager.reset();
    check(*start());
    has_no_remains();
}

TEST_CASE_METHOD(Fixture, "who has the former keys opens nothing that is in the store from then on") {
    const auto manager = start();
    const VtpmRecord before = manager->row(one);
    const GroupRecord group_before = manager->group();
    const Key group_key = copied(*expect(manager->keys.key("default")));
    const Key vtpm_key = expect(key_of(group_key, before));
    expect(manager->rekey("default"));
    const auto opens_nothing = [&] {
        const VtpmRecord row = manager->row(one);
        REQUIRE_FALSE(key_of(group_key, row));
        REQUIRE_FALSE(open_state(vtpm_key, {one, row.version, row.group}, StateKind::kPermanent, row.sequence,
                                 manager->envelope(one)));
        REQUIRE_FALSE(open_stored_state(manager->store, row, vtpm_key, StateKind::kPermanent));
    };
    opens_nothing();
    manager->store_state(one, 2);
    opens_nothing();
    // Nor does the TPM, by what it sealed; and its epoch is another's.
    FakeSealer sealer(&tpm);
    const KeyPolicy policy = expect(policy_of(group_before));
    REQUIRE_FALSE(sealer.unseal(group_before.key, policy, {}));
    const Key authorization = expect(epoch_authorization(group_key));
    REQUIRE_FALSE(sealer.read_epoch(group_before.nv_index, authorization));
    REQUIRE_FALSE(sealer.read_epoch(manager->group().nv_index, authorization));
}

TEST_CASE_METHOD(Fixture, "the former recovery key is void, and another can be made") {
    auto manager = start();
    expect(manager->rekey("default"));
    REQUIRE_FALSE(expect(manager->keys.list()).at(0).has_recovery_key);
    REQUIRE_THAT(expect_error(manager->keys.check_recovery("default", recovery_key)).text,
                 Contains("has no recovery key") && Contains("recovery-key"));
    const std::string next = expect(manager->keys.export_recovery_key("default", Replace::kNo));
    REQUIRE(expect_error(manager->keys.check_recovery("default", recovery_key)).code == ErrorCode::kRefused);
    manager->keys.close();
    manager.reset();
    FakeTpm other{.identity = {'t', 'w', 'o'}};
    const auto elsewhere = open(other);
    const auto order = order_for("default", AcceptRollback::kNo, NewTpm::kYes);
    REQUIRE_FALSE(elsewhere->keys.recover(recovery_key, order));
    expect(elsewhere->keys.recover(next, order));
    REQUIRE(elsewhere->state(one) == state_of(1));
}

// As docs/keys.md has it: a copy from before, with what opened it then, has what was in it.
TEST_CASE_METHOD(Fixture, "an older copy of the store opens by the former recovery key only if somebody says so") {
    back_up();
    {
        const auto manager = start();
        expect(manager->rekey("default"));
        manager->store_state(one, 9);
        manager->keys.close();
    }
    put_back();
    const auto manager = open();
    (void)manager->keys.unlock();
    expect(manager->keys.accept_rollback("tenant"));
    REQUIRE_THAT(expect_error(manager->keys.key("default")).text, Contains("count"));
    REQUIRE_FALSE(manager->keys.accept_rollback("default"));  // the TPM does not unseal
    REQUIRE_THAT(expect_error(manager->keys.recover(recovery_key, order_for("default", AcceptRollback::kNo))).text,
                 Contains("knows of no store") && Contains("accept-rollback"));
    expect(manager->keys.recover(recovery_key, order_for("default", AcceptRollback::kYes)));
    REQUIRE(manager->state(one) == state_of(1));  // of then
    manager->keys.close();
    REQUIRE(tpm.epochs.size() == 2);
}

TEST_CASE_METHOD(Fixture, "rows from before a rekey are refused beside those from after it") {
    back_up();
    {
        const auto manager = start();
        expect(manager->rekey("default"));
        manager->keys.close();
    }
    const char *change =
        GENERATE("INSERT OR REPLACE INTO vtpms SELECT * FROM old.vtpms",
                 "UPDATE groups SET manifest = (SELECT manifest FROM old.groups o WHERE o.name = groups.name)",
                 "UPDATE groups SET nv_index = (SELECT nv_index FROM old.groups o WHERE o.name = groups.name)",
                 "UPDATE groups SET recovery = (SELECT recovery FROM old.groups o WHERE o.name = groups.name)");
    CAPTURE(change);
    run_sql("ATTACH '" + (copy / "store.db") + "' AS old; " + change);
    const auto manager = open();
    (void)manager->keys.unlock();
    REQUIRE(expect_error(manager->keys.key("default")).code == ErrorCode::kRefused);
}

TEST_CASE_METHOD(Fixture,
                 "after a crash at each step of a rekey the group opens, with the former key or with the next") {
    const QuietErrors quiet;
    const Crash crash = GENERATE(Crash::kBeforeEpoch, Crash::kAfterEpoch, Crash::kBeforeCount, Crash::kAfterCount);
    const bool adopted = crash == Crash::kBeforeCount || crash == Crash::kAfterCount;
    CAPTURE(static_cast<int>(crash));
    for (int i = 0; i < 2; ++i) {
        {
            const auto manager = start();
            tpm.crash = crash;
            const Error error = expect_error(manager->rekey("default"));
            REQUIRE_THAT(error.text, Contains(adopted ? "has another key" : "keeps its key"));
            tpm.crash = Crash::kNone;
        }
        const auto manager = start();
        REQUIRE(manager->is_rekeyed() == adopted);
        REQUIRE(manager->state(one) == state_of(1));
        REQUIRE(manager->state(two) == state_of(2));
        REQUIRE(manager->keys.lost().empty());
        has_no_remains();
    }
    const auto manager = start();
    expect(manager->rekey("default"));
    REQUIRE(manager->state(one) == state_of(1));
    has_no_remains();
}

TEST_CASE_METHOD(Fixture, "the same manager rekeys a group once the TPM answers again") {
    const QuietErrors quiet;
    const auto manager = start();
    for (const Crash crash : {Crash::kBeforeEpoch, Crash::kAfterEpoch, Crash::kBeforeCount, Crash::kAfterCount}) {
        tpm.crash = crash;
        REQUIRE_FALSE(manager->rekey("default"));
        tpm.crash = Crash::kNone;
        REQUIRE(manager->state(one) == state_of(1));
        manager->store_state(one, 1);
        expect(manager->rekey("default"));
        has_no_remains();
    }
    tpm.away = true;
    REQUIRE(expect_error(manager->rekey("default")).code == ErrorCode::kUnavailable);
    tpm.away = false;
    expect(manager->rekey("default"));
}

TEST_CASE_METHOD(Fixture, "a group that does not open gets no other key, and the remedy is told") {
    run_sql("UPDATE vtpms SET created = 0 WHERE group_name = 'tenant'");
    const auto manager = start();
    const Error error = expect_error(manager->rekey("tenant"));
    REQUIRE(error.code == ErrorCode::kRefused);
    REQUIRE_THAT(error.text, Contains("group 'tenant' keeps its key") && Contains("rows were put back") &&
                                 Contains("xen-vtpm group open tenant") && Contains("group recover tenant"));
    REQUIRE(expect_error(manager->rekey("nobody")).code == ErrorCode::kNotFound);
    expect(manager->rekey("default"));
    REQUIRE_THAT(expect(manager->keys.list()).at(1).refusal, Contains("rows were put back"));
}

TEST_CASE_METHOD(Fixture,
                 "a vTPM whose state was put back is refused after a rekey too, until the right one is there") {
    const QuietErrors quiet;
    back_up();
    start()->store_state(one, 2);
    TemporaryDirectory right;
    replicate(directory, right);
    const auto put_state = [&](const TemporaryDirectory &from) {
        run_sql("ATTACH '" + (from / "store.db") + "' AS old; INSERT OR REPLACE INTO states SELECT * FROM old.states");
    };
    put_state(copy);
    {
        const auto manager = start();
        REQUIRE_FALSE(manager->vtpms.prepare(one));
        expect(manager->rekey("default"));
        REQUIRE_FALSE(manager->vtpms.prepare(one));
        const auto told = expect(manager->store.audit_records());
        REQUIRE(std::ranges::any_of(told, [&](const AuditRecord &record) {
            return record.event == "vtpm-not-rekeyed" && record.subject == one.to_string();
        }));
        manager->keys.close();
    }
    put_state(right);
    const auto manager = start();
    REQUIRE(manager->state(one) == state_of(2));
}

TEST_CASE_METHOD(Fixture, "a state that somebody put beside a vTPM's keeps it from no new key") {
    run_sql("INSERT INTO states (uuid, kind, sequence, envelope) VALUES ('" + one.to_string() + "', 2, 1, x'00')");
    const auto manager = start();
    const Key former = expect(key_of(*expect(manager->keys.key("default")), manager->row(one)));
    expect(manager->rekey("default"));
    const Key next = expect(key_of(*expect(manager->keys.key("default")), manager->row(one)));
    REQUIRE_FALSE(std::ranges::equal(former.view(), next.view()));
    expect(manager->vtpms.prepare(one));
}

TEST_CASE_METHOD(Fixture, "the CA of a group goes along, or another one is made when one is needed") {
    tpm.signs = true;
    const auto manager = start();
    const std::string before = expect(manager->authorities.show("default")).fingerprint;
    const CaRecord former = manager->group().ca;
    const Key former_authorization = expect(ca_authorization(*expect(manager->keys.key("default"))));
    expect(manager->rekey("default"));
    REQUIRE(expect(manager->authorities.show("default")).fingerprint == before);
    expect(manager->authorities.request("default"));  // it signs
    REQUIRE_FALSE(manager->group().ca.key == former.key);
    FakeSealer sealer(&tpm);
    REQUIRE_FALSE(sealer.sign(manager->group().ca.key, former_authorization, Bytes(32)));
    expect(sealer.sign(former.key, former_authorization, Bytes(32)));  // a copy of it, as docs/keys.md says

    expect(manager->rekey("default", NewCa::kYes));
    REQUIRE(manager->group().ca.certificates.empty());
    REQUIRE(expect(manager->authorities.show("default")).fingerprint != before);
    expect(manager->rekey("default"));
    manager->keys.close();
}

TEST_CASE_METHOD(Fixture, "a CA whose key cannot go along is left only if that is said") {
    tpm.signs = true;
    const auto manager = start();
    expect(manager->authorities.show("default"));
    tpm.keys = {};
    const Error error = expect_error(manager->rekey("default"));
    REQUIRE_THAT(error.text, Contains("keeps its key") && Contains("another TPM") && Contains("--new-ca"));
    REQUIRE_FALSE(manager->is_rekeyed());
    expect(manager->rekey("default", NewCa::kYes));
    expect(manager->authorities.show("default"));
}

TEST_CASE_METHOD(Fixture, "what was exported before a rekey needs the recovery key of then") {
    const auto manager = start();
    const std::string backup = expect(manager->vtpms.export_vtpm(one));
    manager->store_state(one, 7);
    expect(manager->rekey("default"));
    const Error error = expect_error(manager->vtpms.import_vtpm(backup, {.replace = true}));
    REQUIRE(error.code == ErrorCode::kRefused);
    REQUIRE_THAT(error.text, Contains("group rekey") && Contains("--recovery-key"));
    REQUIRE(manager->state(one) == state_of(7));
    expect(manager->vtpms.import_vtpm(backup, {.recovery_key = recovery_key, .replace = true}));
    REQUIRE(manager->state(one) == state_of(1));
    const std::string now = expect(manager->vtpms.export_vtpm(one));
    expect(manager->vtpms.import_vtpm(now, {.replace = true}));
}

TEST_CASE_METHOD(Fixture, "a group that is deleted after a cut rekey leaves nothing in the TPM") {
    const QuietErrors quiet;
    const auto manager = start();
    expect(manager->keys.create({"third", {}, {}, 1}));
    tpm.crash = Crash::kAfterEpoch;
    REQUIRE_FALSE(manager->rekey("third"));
    tpm.crash = Crash::kNone;
    REQUIRE(tpm.epochs.size() == 4);
    expect(manager->keys.remove("third"));
    has_no_remains();
}

TEST_CASE_METHOD(Fixture, "a group with an approver gets another key for the same approvals") {
    const auto manager = start();
    const auto approver = expect(ApproverKey::from_pem(public_pem(p256())));
    expect(manager->keys.create({"approved", {}, approver, 3}));
    expect(manager->rekey("approved"));
    const KeyPolicy policy = expect(manager->keys.policy("approved"));
    REQUIRE(policy.generation == 3);
    REQUIRE(policy.approver->fingerprint() == approver.fingerprint());
}

}  // namespace vtpm::rekey_test
