// SPDX-License-Identifier: Apache-2.0
// Another TPM, another boot, another store: what a recovery key and a backup still open.
#include <algorithm>
#include <cctype>
#include <limits>
#include <memory>

#include "engine_end.hpp"
#include "manager/cli/text.hpp"
#include "manager/crypto/encoding.hpp"
#include "manager/groups/recovery_key.hpp"
#include "manager_in_process.hpp"
#include "replica.hpp"
#include "temporary_directory.hpp"

namespace vtpm::recovery_test {
using Replace = GroupKeys::Replace;
using AcceptRollback = GroupKeys::AcceptRollback;
using NewTpm = GroupKeys::NewTpm;

namespace {

struct Manager : ManagerInProcess {
    using ManagerInProcess::ManagerInProcess;

    // To what it was sealed to, whatever TPM is here.
    Result<> recover(const std::string &name, std::string_view key, AcceptRollback accept = AcceptRollback::kNo) {
        VTPM_ASSIGN(const RecoveryCheck check, keys.check_recovery(name, key));
        return keys.recover(key, {check.policy.value_or(KeyPolicy{name, {}, {}, 1}), accept, NewTpm::kYes});
    }

    void store_state(const Uuid &uuid, std::uint8_t content) {
        EngineEnd engine(std::move(expect(vtpms.open(uuid)).channel));
        engine.send(StoreState{StateKind::kPermanent, Bytes(100, content)});
        turn();
        REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
        engine.close();
        turn();
    }
    Bytes state(const Uuid &uuid) {
        EngineEnd engine(std::move(expect(vtpms.open(uuid)).channel));
        engine.send(LoadState{StateKind::kPermanent});
        turn();
        const auto loaded = engine.receive<LoadedState>();
        REQUIRE(loaded.code == ErrorCode::kNone);
        Bytes copy(loaded.state.begin(), loaded.state.end());
        engine.close();
        turn();
        return copy;
    }
};

// One vTPM in each of two groups, the default one with a recovery key.
struct Fixture {
    TemporaryDirectory directory;
    TemporaryDirectory copy;
    FakeTpm tpm;
    FakeTpm other_tpm{.identity = {'t', 'w', 'o'}};
    const Uuid one = Uuid::random();
    const Uuid two = Uuid::random();
    std::string recovery_key;

    Fixture() {
        const auto manager = start();
        expect(manager->keys.create({"tenant", expect(PcrSelection::parse("sha256:7")), {}, 1}));
        expect(manager->vtpms.create(one, std::nullopt, "default", expect(PcrBanks::parse("sha512"))));
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
};

Bytes state_of(std::uint8_t content) { return Bytes(100, content); }

}  // namespace

TEST_CASE("a recovery key can be written down and typed again") {
    const Key key = expect(random_key());
    const std::string text = recovery_text(key);
    REQUIRE(text.size() == 14 * 4 + 13);
    const auto same = [&](const std::string &typed) {
        return std::ranges::equal(expect(recovery_key_from(typed)).view(), key.view());
    };
    REQUIRE(same(text));
    std::string careless = " ";
    for (const char c : text) {
        const std::string_view from = "-01";
        const auto at = from.find(c);
        careless += at == std::string_view::npos ? static_cast<char>(std::tolower(c)) : " ol"[at];
    }
    REQUIRE(same(careless + "\n"));
}

TEST_CASE("a recovery key that was mistyped is told from another one") {
    const std::string text = recovery_text(expect(random_key()));
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '-') continue;
        std::string typed = text;
        typed[i] = typed[i] == 'A' ? 'B' : 'A';
        REQUIRE(expect_error(recovery_key_from(typed)).code == ErrorCode::kInvalid);
        typed[i] = '!';
        REQUIRE_THAT(expect_error(recovery_key_from(typed)).text, Contains("character"));
    }
    REQUIRE_THAT(expect_error(recovery_key_from(text.substr(1))).text, Contains("too short"));
    REQUIRE_THAT(expect_error(recovery_key_from(text + "0")).text, Contains("too long"));
    REQUIRE(expect_error(recovery_key_from("")).code == ErrorCode::kInvalid);
}

TEST_CASE_METHOD(Fixture, "a recovery key is told once, and another makes it worthless") {
    std::string next;
    {
        const auto manager = start();
        REQUIRE_THAT(expect_error(manager->keys.export_recovery_key("default", Replace::kNo)).text,
                     Contains("--rotate"));
        REQUIRE(expect_error(manager->keys.export_recovery_key("nobody", Replace::kNo)).code == ErrorCode::kRefused);
        next = expect(manager->keys.export_recovery_key("default", Replace::kYes));
        manager->keys.close();
    }
    const auto manager = open(other_tpm);
    REQUIRE(expect_error(manager->recover("default", recovery_key)).code == ErrorCode::kRefused);
    expect(manager->recover("default", next));
}

TEST_CASE_METHOD(Fixture, "on another TPM the recovery key opens its group, and no other") {
    {
        const auto manager = open(other_tpm);
        REQUIRE_FALSE(manager->keys.unlock());
        REQUIRE_FALSE(manager->vtpms.prepare(one));
        REQUIRE_THAT(expect_error(manager->recover("tenant", recovery_key)).text, Contains("no recovery key"));
        REQUIRE_THAT(expect_error(manager->recover("default", recovery_text(expect(random_key())))).text,
                     Contains("not the recovery key"));
        REQUIRE_FALSE(manager->vtpms.prepare(one));
        expect(manager->recover("default", recovery_key));
        REQUIRE(manager->state(one) == state_of(1));
        REQUIRE(expect_error(manager->recover("default", recovery_key)).code == ErrorCode::kWrongState);
        manager->store_state(one, 3);
        manager->keys.close();
    }
    {
        const auto manager = open(other_tpm);
        expect(manager->keys.unlock());
        REQUIRE(manager->state(one) == state_of(3));
    }
    const auto manager = open();
    REQUIRE_THAT(expect_error(manager->keys.unlock()).text, Contains("not the hardware TPM"));
}

TEST_CASE_METHOD(Fixture, "after a crash in a recovery the group opens") {
    for (const auto crash : {FakeTpm::Crash::kBeforeEpoch, FakeTpm::Crash::kAfterEpoch, FakeTpm::Crash::kBeforeCount,
                             FakeTpm::Crash::kAfterCount}) {
        FakeTpm next{.identity = {static_cast<std::uint8_t>('a' + static_cast<int>(crash))}};
        next.crash = crash;
        {
            const auto manager = open(next);
            REQUIRE_FALSE(manager->recover("default", recovery_key));
        }
        next.crash = FakeTpm::Crash::kNone;
        const auto manager = open(next);
        expect(manager->keys.unlock());
        REQUIRE(manager->state(one) == state_of(1));
    }
}

TEST_CASE_METHOD(Fixture, "the recovery key opens a group whose boot has changed") {
    {
        const auto manager = start();
        recovery_key = expect(manager->keys.export_recovery_key("tenant", Replace::kNo));
        manager->keys.close();
    }
    tpm.refused = "sha256:7";
    const auto manager = start();
    REQUIRE_FALSE(manager->vtpms.prepare(two));
    tpm.refused.clear();  // what is sealed now is sealed to this boot
    expect(manager->recover("tenant", recovery_key));
    REQUIRE(manager->state(two) == state_of(2));
    REQUIRE(manager->state(one) == state_of(1));
}

TEST_CASE_METHOD(Fixture, "the recovery key opens a group whose counter was removed or incremented") {
    const bool removed = GENERATE(true, false);
    for (auto &[index, count] : tpm.counters) count += 2;
    if (removed) tpm.counters.clear();
    {
        const auto manager = open();
        REQUIRE_THAT(expect_error(manager->keys.unlock()).text, Contains("count"));
        expect(manager->recover("default", recovery_key));
        REQUIRE(manager->state(one) == state_of(1));
        manager->keys.close();
    }
    REQUIRE(start()->state(one) == state_of(1));
}

TEST_CASE_METHOD(Fixture, "after a crash in a recovery on the same TPM the group opens") {
    tpm.counters.clear();
    tpm.crash = GENERATE(FakeTpm::Crash::kBeforeCount, FakeTpm::Crash::kAfterCount);
    {
        const auto manager = open();
        REQUIRE_FALSE(manager->keys.unlock());
        REQUIRE_FALSE(manager->recover("default", recovery_key));
        tpm.crash = FakeTpm::Crash::kNone;
    }
    REQUIRE(start()->state(one) == state_of(1));
}

TEST_CASE_METHOD(Fixture, "a recovery key does not make an older store the last one") {
    back_up();
    start()->keys.close();
    put_back();
    {
        const auto manager = open();
        REQUIRE_FALSE(manager->keys.unlock());
        REQUIRE_THAT(expect_error(manager->recover("default", recovery_key)).text,
                     Contains("not the store that this host last used"));
        REQUIRE_FALSE(manager->vtpms.prepare(one));
        expect(manager->recover("default", recovery_key, AcceptRollback::kYes));
        REQUIRE(manager->state(one) == state_of(1));
        manager->keys.close();
    }
    const auto manager = start();
    REQUIRE(manager->state(one) == state_of(1));
}

TEST_CASE_METHOD(Fixture, "on another TPM rows that were put back are refused all the same") {
    expect(expect(Database::open(directory / "store.db")).script("UPDATE vtpms SET sequence = 0"));
    const auto manager = open(other_tpm);
    REQUIRE_THAT(expect_error(manager->recover("default", recovery_key)).text, Contains("rows were put back"));
    REQUIRE_FALSE(manager->vtpms.prepare(one));
    expect(manager->recover("default", recovery_key, AcceptRollback::kYes));
}

TEST_CASE_METHOD(Fixture, "a recovery key is read from the file that it was printed into, today's or a former one") {
    const Key key = expect(random_key());
    const std::string text = recovery_text(key);
    const auto same = [&](const std::string &file) {
        return std::ranges::equal(expect(recovery_key_from(file)).view(), key.view());
    };
    const cli::Json exported{{"group", "default"}, {"recovery_key", text}};
    REQUIRE(same(cli::recovery_key_text(exported)));
    REQUIRE(same(exported.dump()));
    REQUIRE(same(exported.dump(2) + "\n"));
    REQUIRE(same("# from the vault\n\n" + text + "\n"));
    REQUIRE(same(text + "\n\nThis opens group 'default' on any machine that has its store or a backup of a vTPM. It is "
                        "kept nowhere and\nwill not be told again: write it down, and keep it away from this host.\n"));
    REQUIRE(same(text.substr(0, 35) + "\r\n" + text.substr(35) + "\r\n"));  // over two lines
    for (const std::string none : {"", "\n", "# nothing\n", "{}", "{\"recovery_key\"", "{\"recovery_key\": \""})
        REQUIRE(expect_error(recovery_key_from(none)).code == ErrorCode::kInvalid);
}

TEST_CASE_METHOD(Fixture, "whether a recovery key is right can be asked while all is well") {
    const auto manager = start();
    REQUIRE(expect(manager->keys.check_recovery("default", recovery_key)).open);
    REQUIRE(expect_error(manager->keys.check_recovery("default", recovery_key.substr(1))).code == ErrorCode::kInvalid);
    REQUIRE_THAT(expect_error(manager->keys.check_recovery("default", recovery_text(expect(random_key())))).text,
                 Contains("not the recovery key of group 'default'"));
    REQUIRE_THAT(expect_error(manager->keys.check_recovery("tenant", recovery_key)).text,
                 Contains("group recovery-key"));
    const std::string next = expect(manager->keys.export_recovery_key("default", Replace::kYes));
    REQUIRE(expect_error(manager->keys.check_recovery("default", recovery_key)).code == ErrorCode::kRefused);
    REQUIRE(expect(manager->keys.check_recovery("default", next)).open);
}

TEST_CASE_METHOD(Fixture, "no other TPM gets a group unless that is said") {
    const auto manager = open(other_tpm);
    const KeyPolicy policy{"default", {}, {}, 1};
    const Error refused = expect_error(manager->keys.recover(recovery_key, {policy}));
    REQUIRE(refused.code == ErrorCode::kRefused);
    REQUIRE_THAT(refused.text, Contains("not the hardware TPM") && Contains("--new-tpm"));
    REQUIRE(other_tpm.epochs.empty());
    REQUIRE(expect(manager->keys.check_recovery("default", recovery_key)).new_tpm == refused.text);
    expect(manager->keys.recover(recovery_key, {policy, AcceptRollback::kNo, NewTpm::kYes}));
}

TEST_CASE_METHOD(Fixture, "the store does not choose which TPM is the one that sealed a group") {
    {
        auto database = expect(Database::open(directory / "store.db"));
        expect(database.execute("UPDATE meta SET value = ? WHERE name = 'identity'", ByteView(other_tpm.identity)));
    }
    const auto manager = open(other_tpm);
    REQUIRE_FALSE(manager->keys.unlock());
    REQUIRE_THAT(expect_error(manager->keys.recover(recovery_key, {{"default", {}, {}, 1}})).text,
                 Contains("--new-tpm"));
}

TEST_CASE_METHOD(Fixture, "one group after the other moves to the new TPM") {
    std::string tenants_key;
    {
        const auto manager = start();
        tenants_key = expect(manager->keys.export_recovery_key("tenant", Replace::kNo));
        manager->keys.close();
    }
    {
        const auto manager = open(other_tpm);
        REQUIRE_FALSE(manager->keys.unlock());
        expect(manager->recover("default", recovery_key));
        expect(manager->recover("tenant", tenants_key));
        manager->keys.close();
    }
    const auto manager = open(other_tpm);
    expect(manager->keys.unlock());
    REQUIRE(manager->state(one) == state_of(1));
    REQUIRE(manager->state(two) == state_of(2));
    REQUIRE(other_tpm.epochs.size() == 2);
}

TEST_CASE_METHOD(Fixture, "what a group is sealed to is its manifest's word, not the store's") {
    std::string tenants_key;
    {
        const auto manager = start();
        tenants_key = expect(manager->keys.export_recovery_key("tenant", Replace::kNo));
        manager->keys.close();
    }
    const std::string sql =
        GENERATE(as<std::string>(), "pcrs = ''", "pcrs = 'sha256:23'", "generation = 7, approver = x'00'",
                 "pcrs = 'nonsense'", "pcrs = '', approver = x'00'");
    CAPTURE(sql);
    expect(expect(Database::open(directory / "store.db"))
               .script(("UPDATE groups SET " + sql + " WHERE name = 'tenant'").c_str()));
    tpm.refused = "sha256:7";
    const auto manager = open();
    (void)manager->keys.unlock();
    if (manager->keys.key("tenant")) return;  // the fake lets it pass to here, a TPM does not
    const RecoveryCheck check = expect(manager->keys.check_recovery("tenant", tenants_key));
    REQUIRE(check.remembered);
    REQUIRE(check.policy->pcrs.to_string() == "sha256:7");
    REQUIRE(check.policy->generation == 1);
    REQUIRE_THAT(check.difference, Contains("somebody changed the store"));
    REQUIRE(check.new_tpm.empty());
    expect(manager->keys.recover(tenants_key, {*check.policy}));
    REQUIRE(expect(manager->keys.record("tenant")).pcrs == "sha256:7");
    REQUIRE(expect(manager->keys.record("tenant")).approver.empty());
}

TEST_CASE_METHOD(Fixture, "a store that cannot be read is not taken for one without a manifest") {
    const auto run_sql = [&](const char *sql) { expect(expect(Database::open(directory / "store.db")).script(sql)); };
    run_sql("UPDATE vtpms SET pcr_banks = 'x' || pcr_banks");
    {
        const auto manager = open(other_tpm);
        REQUIRE_FALSE(manager->keys.unlock());
        REQUIRE_THAT(expect_error(manager->keys.check_recovery("default", recovery_key)).text, Contains("damaged row"));
        REQUIRE_THAT(expect_error(manager->recover("default", recovery_key)).text, Contains("damaged row"));
    }
    run_sql("UPDATE vtpms SET pcr_banks = substr(pcr_banks, 2)");
    const auto manager = open(other_tpm);
    REQUIRE_FALSE(manager->keys.unlock());
    expect(manager->recover("default", recovery_key));
}

TEST_CASE_METHOD(Fixture, "a row of a group that was changed or put back refuses it") {
    const std::string sql = GENERATE(as<std::string>(), "pcrs = 'sha256:4'", "generation = 2", "created = 1",
                                     "recovery = x''", "recovery = x'00'", "manifest = x'00'");
    CAPTURE(sql);
    expect(expect(Database::open(directory / "store.db"))
               .script(("UPDATE groups SET " + sql + " WHERE name = 'default'").c_str()));
    const auto manager = open();
    (void)manager->keys.unlock();
    REQUIRE_THAT(expect_error(manager->keys.key("default")).text, Contains("accept-rollback"));
    expect(manager->keys.accept_rollback("default"));
    REQUIRE(manager->state(one) == state_of(1));
    expect(manager->keys.key("tenant"));
}

TEST_CASE_METHOD(Fixture, "a recovery key that was replaced is not put back into the store, and into backups") {
    back_up();
    {
        const auto manager = start();
        expect(manager->keys.export_recovery_key("default", Replace::kYes));
        manager->keys.close();
    }
    expect(
        expect(Database::open(directory / "store.db"))
            .script(
                ("ATTACH '" + (copy / "store.db") +
                 "' AS old; UPDATE groups SET recovery = (SELECT recovery FROM old.groups g WHERE g.name = 'default') "
                 "WHERE name = 'default'")
                    .c_str()));
    const auto manager = open();
    (void)manager->keys.unlock();
    REQUIRE_THAT(expect_error(manager->keys.key("default")).text, Contains("recovery key is not the last one"));
    REQUIRE_THAT(expect_error(manager->recover("default", recovery_key)).text, Contains("not the last one"));
}

TEST_CASE_METHOD(Fixture,
                 "without its manifest a group gets an NV index of its own, not the one that the store names") {
    const auto index = [&](const char *name) { return expect(start()->keys.record(name)).nv_index; };
    const std::uint32_t tenants = index("tenant");
    expect(expect(Database::open(directory / "store.db"))
               .script(fmt::format("UPDATE groups SET nv_index = {} WHERE name = 'default'", tenants).c_str()));
    const auto manager = open();
    (void)manager->keys.unlock();
    REQUIRE_THAT(expect_error(manager->recover("default", recovery_key)).text, Contains("damaged or not its own"));
    const auto count = tpm.counters.at(tenants);
    expect(manager->recover("default", recovery_key, AcceptRollback::kYes));
    REQUIRE(tpm.counters.at(tenants) == count);
    REQUIRE(expect(manager->keys.record("default")).nv_index != tenants);
    REQUIRE(manager->state(one) == state_of(1));
    expect(manager->keys.key("tenant"));
}

TEST_CASE_METHOD(Fixture, "a backup brings a destroyed vTPM back") {
    auto manager = start();
    const std::string backup = expect(manager->vtpms.export_vtpm(one));
    expect(manager->vtpms.destroy(one));
    REQUIRE(expect(manager->vtpms.import_vtpm(backup, {})) == one);
    REQUIRE(manager->state(one) == state_of(1));
    REQUIRE(expect(manager->vtpms.show(one)).record.profile.pcr_banks.to_string() == "sha512");
    manager->store_state(one, 9);
    manager->keys.close();
    manager.reset();
    REQUIRE(start()->state(one) == state_of(9));
}

TEST_CASE_METHOD(Fixture, "a vTPM goes back to its backup only if that is said") {
    auto manager = start();
    const std::string backup = expect(manager->vtpms.export_vtpm(one));
    manager->store_state(one, 5);
    REQUIRE_THAT(expect_error(manager->vtpms.import_vtpm(backup, {})).text, Contains("--replace"));
    REQUIRE(manager->state(one) == state_of(5));
    expect(manager->vtpms.import_vtpm(backup, {.replace = true}));
    REQUIRE(manager->state(one) == state_of(1));
    manager->keys.close();
    manager.reset();
    REQUIRE(start()->state(one) == state_of(1));
}

TEST_CASE_METHOD(Fixture, "a vTPM that goes back to its backup keeps its names, which would mean another one's guest") {
    auto manager = start();
    const std::string backup = expect(manager->vtpms.export_vtpm(one));
    expect(manager->vtpms.set_alias(one, "web"));
    expect(manager->vtpms.import_vtpm(backup, {.replace = true}));
    REQUIRE(expect(manager->vtpms.find("web")) == one);
    manager->keys.close();
    manager.reset();
    manager = start();
    REQUIRE(expect(manager->vtpms.find("web")) == one);
    // One that is here no more has none.
    expect(manager->vtpms.destroy(one));
    expect(manager->vtpms.import_vtpm(backup, {}));
    REQUIRE(expect_error(manager->vtpms.find("web")).code == ErrorCode::kNotFound);
}

TEST_CASE_METHOD(Fixture, "no backup makes a second running copy") {
    const auto manager = start();
    const std::string backup = expect(manager->vtpms.export_vtpm(one));
    const OpenedVtpm running = expect(manager->vtpms.open(one));
    const ImportOrder all{.replace = true, .original_is_gone = true};
    REQUIRE(expect_error(manager->vtpms.import_vtpm(backup, all)).code == ErrorCode::kInUse);

    TemporaryDirectory elsewhere;
    Manager second(elsewhere.path(), other_tpm);
    expect(second.keys.unlock());
    REQUIRE_THAT(expect_error(second.vtpms.import_vtpm(backup, {.recovery_key = recovery_key})).text,
                 Contains("--confirm-original-destroyed"));
    REQUIRE(expect_error(second.vtpms.import_vtpm(backup, {.original_is_gone = true})).code == ErrorCode::kRefused);
    expect(second.vtpms.import_vtpm(backup, {.recovery_key = recovery_key, .original_is_gone = true}));
    REQUIRE(second.state(one) == state_of(1));
}

TEST_CASE_METHOD(Fixture, "a backup of a group without a recovery key opens by that group only") {
    const auto manager = start();
    const std::string backup = expect(manager->vtpms.export_vtpm(two));
    expect(manager->vtpms.destroy(two));
    REQUIRE_THAT(expect_error(manager->vtpms.import_vtpm(backup, {.recovery_key = recovery_key})).text,
                 Contains("had none when it was made"));
    REQUIRE(expect_error(manager->vtpms.import_vtpm(backup, {.group = "default"})).code == ErrorCode::kRefused);
    REQUIRE(expect_error(manager->vtpms.import_vtpm(backup, {.group = "nobody"})).code == ErrorCode::kNotFound);
    expect(manager->vtpms.import_vtpm(backup, {}));
    REQUIRE(manager->state(two) == state_of(2));
}

TEST_CASE_METHOD(Fixture, "a vTPM that never ran has no backup") {
    const auto manager = start();
    const Uuid fresh = expect(manager->vtpms.create(std::nullopt, std::nullopt));
    REQUIRE(expect_error(manager->vtpms.export_vtpm(fresh)).code == ErrorCode::kWrongState);
    REQUIRE(expect_error(manager->vtpms.export_vtpm(Uuid::random())).code == ErrorCode::kNotFound);
}

TEST_CASE_METHOD(Fixture, "a backup that is not as it was made changes nothing") {
    const auto manager = start();
    const std::string backup = expect(manager->vtpms.export_vtpm(one));
    const ImportOrder all{.replace = true, .original_is_gone = true};
    const std::size_t begin = backup.find('\n') + 1;
    const std::size_t end = backup.rfind("\n-----END");
    for (std::size_t i = begin; i < end; ++i) {
        if (backup[i] == '\n' || backup[i] == '=') continue;
        std::string changed = backup;
        changed[i] = changed[i] == 'A' ? 'B' : 'A';
        const auto imported = manager->vtpms.import_vtpm(changed, all);
        // The last character before the padding has bits that mean nothing.
        if (imported && backup[i + 1] == '=') continue;
        INFO(i);
        REQUIRE_FALSE(imported);
        REQUIRE_FALSE(imported.error().text.empty());
    }
    for (std::size_t size = 0; size < backup.size() - 1; size += 7)
        REQUIRE_FALSE(manager->vtpms.import_vtpm(backup.substr(0, size), all));
    for (const std::string junk : {"", "-----BEGIN XEN VTPM BACKUP-----\n-----END XEN VTPM BACKUP-----\n", "nonsense"})
        REQUIRE(expect_error(manager->vtpms.import_vtpm(junk, all)).code == ErrorCode::kInvalid);
    REQUIRE(manager->state(one) == state_of(1));
    REQUIRE(expect(manager->vtpms.show(one)).record.sequence == 1);
}

// What it says of itself is told before it is proved.
TEST_CASE_METHOD(Fixture, "a backup of no time that there is, or with words that a terminal obeys, does no harm") {
    const auto manager = start();
    BackupHeader header{one, TpmVersion::k20, {}, "default", "\x1b[31m\nstore\xff", 0, {}, {}};
    header.profile.pcr_banks = expect(PcrBanks::parse("sha256"));
    const Key key = expect(random_key());
    for (const std::int64_t time : {std::int64_t{-1}, kLastUtc + 1, std::numeric_limits<std::int64_t>::max()}) {
        header.time = time;
        const std::string backup = expect(make_backup(key, header, Bytes(100)));
        for (const bool gone : {false, true})
            REQUIRE(expect_error(manager->vtpms.import_vtpm(backup, {.original_is_gone = gone})).code ==
                    ErrorCode::kInvalid);
    }
    header.time = 1;
    const std::string backup = expect(make_backup(key, header, Bytes(100)));
    const Error error = expect_error(manager->vtpms.import_vtpm(backup, {}));
    REQUIRE_THAT(error.text, Contains("is of another store (?[31m?store?)"));
}

}  // namespace vtpm::recovery_test
