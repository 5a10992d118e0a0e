// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/vtpms.hpp"

#include <algorithm>
#include <ctime>
#include <iterator>
#include <set>

#include "engine_end.hpp"
#include "failing_vfs.hpp"
#include "manager/ca/endorsement.hpp"
#include "manager/store/database.hpp"
#include "manager_in_process.hpp"
#include "temporary_directory.hpp"

namespace vtpm::vtpms_test {

namespace {

struct Place {
    failing_vfs::Faults &faults = failing_vfs::faults();
    TemporaryDirectory directory;
    FakeTpm tpm;
};

struct Fixture : Place, ManagerInProcess {
    const Uuid uuid = Uuid::random();
    const Bytes state = Bytes(1000, 's');

    Fixture() : ManagerInProcess(directory.path(), tpm, failing_vfs::kName) { expect(keys.unlock()); }

    EngineEnd open(const Uuid &which) { return EngineEnd(std::move(expect(vtpms.open(which)).channel)); }
    StoredState store_state(EngineEnd &engine) {
        engine.store(state);
        turn();
        return engine.receive<StoredState>();
    }
};

// One that a test can stop and start again.
struct Restarted : ManagerInProcess {
    Restarted(const TemporaryDirectory &directory, FakeTpm &tpm) : ManagerInProcess(directory.path(), tpm) {
        expect(keys.unlock());
    }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "an unknown vTPM is created at attach, with the default version, and its state is new") {
    REQUIRE(expect(vtpms.prepare(uuid)) == TpmVersion::k20);
    EngineEnd engine = open(uuid);
    engine.load();
    turn();
    const auto loaded = engine.receive<LoadedState>();
    REQUIRE(loaded.code == ErrorCode::kNotFound);
    REQUIRE(loaded.sequence == 0);
}

TEST_CASE_METHOD(Fixture, "a vTPM has the PCR banks of the configuration, or those that it was created with") {
    const auto banks = [&](const Uuid &which) {
        return expect(vtpms.show(which)).record.profile.pcr_banks.to_string();
    };
    expect(vtpms.prepare(uuid));
    REQUIRE(banks(uuid) == "sha256,sha384");
    const auto sha512 = expect(PcrBanks::parse("sha512"));
    REQUIRE(banks(expect(vtpms.create(std::nullopt, std::nullopt, "default", sha512))) == "sha512");
    REQUIRE(banks(expect(vtpms.create(std::nullopt, TpmVersion::k12))).empty());
    REQUIRE(expect_error(vtpms.create(std::nullopt, TpmVersion::k12, "default", sha512)).code == ErrorCode::kInvalid);
    REQUIRE(expect_error(vtpms.create(std::nullopt, std::nullopt, "default", PcrBanks())).code == ErrorCode::kInvalid);
    // A manager with another configuration.
    Vtpms configured(services, keys, {true, TpmVersion::k20, {sha512, "rsa,sha256"}});
    expect(configured.prepare(uuid));
    REQUIRE(banks(uuid) == "sha256,sha384");
    const Uuid other = Uuid::random();
    expect(configured.prepare(other));
    REQUIRE(banks(other) == "sha512");
    EngineEnd engine = EngineEnd(std::move(expect(configured.open(other)).channel));
    engine.load();
    turn();
    REQUIRE(engine.receive<LoadedState>().algorithms == "rsa,sha256");
}

namespace {

// Powers it on for a guest of this name, and stores its first state.
void use(Fixture &host, const Uuid &vtpm, const std::string &guest) {
    EngineEnd engine(std::move(expect(host.vtpms.open(vtpm, {}, guest)).channel));
    engine.send(PowerOn{});
    host.turn();
    REQUIRE(engine.receive<PowerOnCommands>().code == ErrorCode::kNone);
    REQUIRE(host.store_state(engine).code == ErrorCode::kNone);
    engine.close();
    host.turn();
}

}  // namespace

TEST_CASE_METHOD(Fixture, "a vTPM is found by the name that its guest had when it was last powered on") {
    expect(vtpms.prepare(uuid));
    REQUIRE(expect_error(vtpms.find("web")).code == ErrorCode::kNotFound);
    REQUIRE(expect_error(vtpms.find("")).code == ErrorCode::kNotFound);
    REQUIRE(expect(vtpms.show(uuid)).record.last_used == 0);
    const std::int64_t before = std::time(nullptr);
    use(*this, uuid, "web");
    REQUIRE(expect(vtpms.find("web")) == uuid);
    REQUIRE(expect(vtpms.show(uuid)).record.last_used >= before);
    use(*this, uuid, "shop");
    REQUIRE(expect_error(vtpms.find("web")).code == ErrorCode::kNotFound);
    REQUIRE(expect(vtpms.find("shop")) == uuid);
    const Uuid other = expect(vtpms.create(std::nullopt, std::nullopt));
    use(*this, other, "shop");
    const Error two = expect_error(vtpms.find("shop"));
    REQUIRE(two.code == ErrorCode::kInvalid);
    REQUIRE_THAT(two.text, Contains(uuid.to_string()) && Contains(other.to_string()));
    // What nobody can type, a terminal obeys or a row has no room for.
    use(*this, other, "\x1b[2J\n\xff" + std::string(400, 'a'));
    REQUIRE(expect(vtpms.show(other)).record.guest == "?[2J??" + std::string(kMaxGuestName - 6, 'a'));
    REQUIRE(expect(vtpms.find("shop")) == uuid);
}

TEST_CASE_METHOD(Fixture, "a vTPM has one alias, which no other vTPM has, and which goes before a guest's name") {
    expect(vtpms.prepare(uuid));
    const Uuid other = expect(vtpms.create(std::nullopt, std::nullopt));
    use(*this, other, "web");
    EngineEnd engine = open(uuid);
    expect(vtpms.set_alias(uuid, "web"));
    REQUIRE(expect(vtpms.find("web")) == uuid);
    REQUIRE(expect_error(vtpms.set_alias(other, "web")).code == ErrorCode::kInUse);
    REQUIRE(expect_error(vtpms.set_alias(Uuid::random(), "web2")).code == ErrorCode::kNotFound);
    expect(vtpms.set_alias(uuid, "web"));
    // While it runs: its next state does not take the alias away.
    REQUIRE(store_state(engine).code == ErrorCode::kNone);
    REQUIRE(expect(vtpms.show(uuid)).record.alias == "web");
    expect(vtpms.set_alias(uuid, "Shop_2.example"));
    REQUIRE(expect(vtpms.find("web")) == other);
    REQUIRE(expect(vtpms.find("Shop_2.example")) == uuid);
    for (const std::string &none :
         {std::string("7"), std::string("--help"), std::string("a b"), std::string("a\nb"), std::string(65, 'a'),
          uuid.to_string(), std::string("\xc3\xa4"), std::string("$(reboot)")})
        REQUIRE(expect_error(vtpms.set_alias(uuid, none)).code == ErrorCode::kInvalid);
    expect(vtpms.set_alias(uuid, ""));
    REQUIRE(expect_error(vtpms.find("Shop_2.example")).code == ErrorCode::kNotFound);
    expect(vtpms.set_alias(other, "Shop_2.example"));
}

TEST_CASE("names are there after a restart, and whoever writes others into the store locks the group") {
    Place place;
    const Uuid uuid = Uuid::random();
    {
        Restarted first(place.directory, place.tpm);
        expect(first.vtpms.prepare(uuid));
        expect(first.vtpms.set_alias(uuid, "web"));
    }
    {
        Restarted second(place.directory, place.tpm);
        REQUIRE(expect(second.vtpms.find("web")) == uuid);
    }
}

TEST_CASE_METHOD(Fixture, "a CA that is there is shown, and a certificate for it judged, without the TPM") {
    tpm.signs = true;
    const CaInfo made = expect(authorities.show("default"));
    tpm.away = true;
    REQUIRE(expect(authorities.show("default")).certificate == made.certificate);
    REQUIRE(expect_error(authorities.import_signed("default", made.certificate)).code == ErrorCode::kInvalid);
    REQUIRE(expect_error(authorities.request("default")).code == ErrorCode::kUnavailable);
}

TEST_CASE_METHOD(Fixture, "without auto_create an unknown vTPM is not found, and the remedy is said") {
    Vtpms strict(services, keys, {false, TpmVersion::k20});
    const Error error = expect_error(strict.prepare(uuid));
    REQUIRE(error.code == ErrorCode::kNotFound);
    REQUIRE_THAT(error.text, Contains("xen-vtpm create"));
}

TEST_CASE_METHOD(Fixture, "what an engine stored is loaded by the next one") {
    expect(vtpms.prepare(uuid));
    {
        EngineEnd engine = open(uuid);
        REQUIRE(store_state(engine).sequence == 1);
        REQUIRE(store_state(engine).sequence == 2);
    }
    turn();
    EngineEnd engine = open(uuid);
    engine.load();
    turn();
    const auto loaded = engine.receive<LoadedState>();
    REQUIRE(loaded.code == ErrorCode::kNone);
    REQUIRE(loaded.sequence == 2);
    REQUIRE(std::ranges::equal(loaded.state, state));
}

TEST_CASE_METHOD(Fixture, "the largest state of the protocol is stored and loaded") {
    expect(vtpms.prepare(uuid));
    EngineEnd engine = open(uuid);
    const Bytes large(kMaxState, 'l');
    engine.store(large);
    turn();
    REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
    engine.load();
    turn();
    REQUIRE(std::ranges::equal(engine.receive<LoadedState>().state, large));
}

TEST_CASE_METHOD(Fixture, "a vTPM runs once: the second is refused until the first has gone") {
    expect(vtpms.prepare(uuid));
    EngineEnd engine = open(uuid);
    REQUIRE(expect_error(vtpms.open(uuid)).code == ErrorCode::kInUse);
    REQUIRE(expect(vtpms.show(uuid)).in_use);
    expect(vtpms.prepare(uuid));  // a migration prepares before the other has gone
    engine.close();
    turn();
    REQUIRE_FALSE(expect(vtpms.show(uuid)).in_use);
    open(uuid);
}

TEST_CASE_METHOD(Fixture, "a vTPM in use is not destroyed") {
    expect(vtpms.prepare(uuid));
    EngineEnd engine = open(uuid);
    REQUIRE(expect_error(vtpms.destroy(uuid)).code == ErrorCode::kInUse);
    engine.close();
    turn();
    expect(vtpms.destroy(uuid));
    REQUIRE(expect_error(vtpms.show(uuid)).code == ErrorCode::kNotFound);
}

TEST_CASE_METHOD(Fixture, "stores that are ready together are one transaction") {
    constexpr int kVtpms = 20;
    std::vector<EngineEnd> engines;
    for (int i = 0; i < kVtpms; ++i) {
        const Uuid one = Uuid::random();
        expect(vtpms.prepare(one));
        engines.push_back(open(one));
    }
    faults.syncs = 0;
    for (EngineEnd &engine : engines) engine.store(state);
    turn();
    for (EngineEnd &engine : engines) REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
    REQUIRE(faults.syncs >= 1);
    REQUIRE(faults.syncs <= 2);  // 20 without the group; 2 if the deadline parted them
}

TEST_CASE_METHOD(Fixture, "a store that fails is answered so, and the next one works") {
    expect(vtpms.prepare(uuid));
    EngineEnd engine = open(uuid);
    REQUIRE(store_state(engine).sequence == 1);
    faults.write_error = SQLITE_FULL;
    const auto failed = store_state(engine);
    REQUIRE(failed.code == ErrorCode::kStoreFailed);
    REQUIRE(failed.sequence == 1);
    faults.write_error = SQLITE_OK;
    REQUIRE(store_state(engine).sequence == 2);
}

TEST_CASE_METHOD(Fixture, "an engine that goes before the answer leaves its channel free") {
    expect(vtpms.prepare(uuid));
    EngineEnd engine = open(uuid);
    engine.store(state);
    engine.close();
    turn();
    REQUIRE_FALSE(expect(vtpms.show(uuid)).in_use);
    open(uuid);
}

TEST_CASE_METHOD(Fixture, "a malformed message closes the channel") {
    expect(vtpms.prepare(uuid));
    EngineEnd engine = open(uuid);
    const Bytes message = GENERATE(Bytes{0}, Bytes{16, 0}, Bytes{16, 0, 3}, Bytes{16, 0, 1, 0},
                                   Bytes{18, 0, 1, 9, 0, 0, 0}, Bytes{2, 0, 1, 0}, Bytes{0xff, 0xff});
    expect(send_message(engine.fd(), message));
    turn();
    REQUIRE(engine.closed());
    REQUIRE_FALSE(expect(vtpms.show(uuid)).in_use);
}

TEST_CASE_METHOD(Fixture, "a request before the answer closes the channel, and is not stored") {
    expect(vtpms.prepare(uuid));
    EngineEnd engine = open(uuid);
    engine.store(state);
    engine.store(state);
    turn();
    REQUIRE_FALSE(expect(vtpms.show(uuid)).in_use);
}

TEST_CASE_METHOD(Fixture, "an engine that does not read its answers loses its channel, and nobody waits") {
    expect(vtpms.prepare(uuid));
    EngineEnd engine = open(uuid);
    engine.store(Bytes(kMaxState, 'x'));
    turn();
    engine.receive<StoredState>();
    for (int i = 0; i < 4; ++i) engine.load();
    turn();
    REQUIRE_FALSE(expect(vtpms.show(uuid)).in_use);
}

TEST_CASE_METHOD(Fixture, "a volatile state is loaded once") {
    expect(vtpms.prepare(uuid));
    EngineEnd engine = open(uuid);
    engine.send(StoreState{StateKind::kVolatile, state});
    turn();
    REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
    engine.load(StateKind::kVolatile);
    turn();
    REQUIRE(std::ranges::equal(engine.receive<LoadedState>().state, state));
    engine.load(StateKind::kVolatile);
    turn();
    REQUIRE(engine.receive<LoadedState>().code == ErrorCode::kNotFound);
}

TEST_CASE_METHOD(Fixture, "a power-on ends a volatile state") {
    expect(vtpms.prepare(uuid));
    EngineEnd engine = open(uuid);
    engine.send(StoreState{StateKind::kVolatile, state});
    turn();
    REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
    CHECK_FALSE(expect(vtpms.show(uuid)).record.volatile_tag.empty());
    engine.send(PowerOn{});
    turn();
    engine.receive<PowerOnCommands>();
    CHECK(expect(vtpms.show(uuid)).record.volatile_tag.empty());
    engine.load(StateKind::kVolatile);
    turn();
    REQUIRE(engine.receive<LoadedState>().code == ErrorCode::kNotFound);
}

TEST_CASE_METHOD(
    Fixture, "a guest that is started anew ends the volatile state of a saved one, though it never asks for its TPM") {
    expect(vtpms.prepare(uuid));
    EngineEnd engine = open(uuid);
    engine.send(StoreState{StateKind::kVolatile, state});
    turn();
    REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
    expect(vtpms.prepare(uuid));  // it runs: somebody else's mistake
    CHECK_FALSE(expect(vtpms.show(uuid)).record.volatile_tag.empty());
    engine.close();
    turn();
    expect(vtpms.prepare(uuid, Beginning::kResume));
    CHECK_FALSE(expect(vtpms.show(uuid)).record.volatile_tag.empty());
    expect(vtpms.prepare(uuid));
    CHECK(expect(vtpms.show(uuid)).record.volatile_tag.empty());
}

TEST_CASE_METHOD(Fixture, "for a guest that comes from elsewhere without its vTPM none is created") {
    CHECK(vtpms.prepare(uuid, Beginning::kResume).error().code == ErrorCode::kNotFound);
    CHECK(expect(vtpms.list()).vtpms.empty());
}

TEST_CASE("a state that the inventory has and the store has not, or not as it was, is refused and stays") {
    const auto [sql, cause] = GENERATE(table<const char *, const char *>({
        {"DELETE FROM states", "missing"},
        {"UPDATE states SET envelope = x'00'", "not the one that was stored last"},
        {"UPDATE states SET envelope = substr(envelope, 1, length(envelope) - 1)", "not the one that was stored last"},
        {"UPDATE states SET envelope = CAST(x'5a' || envelope AS BLOB)", "not an envelope"},
        {"UPDATE states SET envelope = CAST(zeroblob(200) || substr(envelope, -16) AS BLOB)", "not an envelope"},
        {"UPDATE states SET sequence = 1", "put back"},
    }));
    CAPTURE(sql);
    TemporaryDirectory directory;
    FakeTpm tpm;
    const Uuid uuid = Uuid::random();
    {
        Restarted manager(directory, tpm);
        expect(manager.vtpms.create(uuid, std::nullopt));
        EngineEnd engine(std::move(expect(manager.vtpms.open(uuid)).channel));
        for (int i = 0; i < 2; ++i) {
            engine.store(Bytes(100, 's'));
            while (sd_event_run(manager.loop.raw(), 20'000) > 0) {}
            REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
        }
    }
    expect(expect(Database::open(directory / "store.db")).script(sql));
    Restarted manager(directory, tpm);
    const Error refused = expect_error(manager.vtpms.prepare(uuid));
    REQUIRE(refused.code == ErrorCode::kRefused);
    REQUIRE_THAT(refused.text, Contains(cause));
    REQUIRE(expect_error(manager.vtpms.open(uuid)).code == ErrorCode::kRefused);
    REQUIRE_THAT(expect(manager.vtpms.show(uuid)).refusal, Contains(cause));
}

TEST_CASE("a volatile state that the inventory has and the store has not is refused") {
    TemporaryDirectory directory;
    FakeTpm tpm;
    const Uuid uuid = Uuid::random();
    {
        Restarted manager(directory, tpm);
        expect(manager.vtpms.create(uuid, std::nullopt));
        EngineEnd engine(std::move(expect(manager.vtpms.open(uuid)).channel));
        engine.send(StoreState{StateKind::kVolatile, Bytes(100, 'v')});
        manager.turn();
        REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
    }
    expect(expect(Database::open(directory / "store.db")).script("DELETE FROM states"));
    Restarted manager(directory, tpm);
    EngineEnd engine(std::move(expect(manager.vtpms.open(uuid)).channel));
    engine.load(StateKind::kVolatile);
    manager.turn();
    REQUIRE(engine.receive<LoadedState>().code == ErrorCode::kRefused);
}

TEST_CASE("a vTPM that the inventory has no more, and whose state is there, is not new") {
    TemporaryDirectory directory;
    FakeTpm tpm;
    const Uuid uuid = Uuid::random();
    {
        Restarted manager(directory, tpm);
        expect(manager.keys.create({"tenant", {}, {}, 1}));
        expect(manager.vtpms.create(uuid, std::nullopt, "tenant"));
        EngineEnd engine(std::move(expect(manager.vtpms.open(uuid)).channel));
        engine.store(Bytes(100, 's'));
        manager.turn();
        REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
    }
    expect(expect(Database::open(directory / "store.db")).script("DELETE FROM vtpms"));
    Restarted manager(directory, tpm);
    expect(manager.keys.key("default"));
    REQUIRE(expect_error(manager.vtpms.prepare(uuid)).code == ErrorCode::kRefused);
    REQUIRE_THAT(expect_error(manager.vtpms.create(uuid, std::nullopt)).text, Contains("has a state"));
    REQUIRE(expect_error(manager.vtpms.destroy(Uuid::random())).code == ErrorCode::kNotFound);
    expect(manager.vtpms.destroy(uuid));  // the administrator gives it up
    expect(manager.vtpms.create(uuid, std::nullopt));
}

TEST_CASE_METHOD(Fixture, "states of two vTPMs that were exchanged are refused") {
    const Uuid other = Uuid::random();
    for (const Uuid &one : {uuid, other}) {
        expect(vtpms.prepare(one));
        EngineEnd engine = open(one);
        store_state(engine);
    }
    turn();
    const auto mine = expect(store.find_state(uuid, StateKind::kPermanent));
    expect(write(inventory, {other, "default", StateKind::kPermanent, 1, mine->envelope}));
    REQUIRE_THAT(expect_error(vtpms.prepare(other)).text, Contains("belongs to vTPM " + uuid.to_string()));
    expect(vtpms.prepare(uuid));
}

TEST_CASE_METHOD(Place, "all vTPMs are listed, part by part, and once, those of damaged rows too") {
    std::set<std::string> all;
    const auto listed = [](ManagerInProcess &manager) {
        std::vector<std::string> names;
        std::size_t parts = 0;
        for (std::string last; parts == 0 || !last.empty(); ++parts) {
            const VtpmList list = expect(manager.vtpms.list(last));
            REQUIRE(list.vtpms.size() + list.damaged.size() <= Store::kListedAtOnce);
            for (const VtpmInfo &info : list.vtpms) names.push_back(info.record.uuid.to_string());
            names.insert(names.end(), list.damaged.begin(), list.damaged.end());
            last = list.last;
        }
        REQUIRE(parts == 3);
        return names;
    };
    {
        Restarted manager(directory, tpm);
        for (std::int64_t i = 0; i < 2 * Store::kListedAtOnce; ++i) {
            const Uuid created = Uuid::random();
            expect(manager.vtpms.create(created, std::nullopt));
            all.insert(created.to_string());
        }
        const std::vector<std::string> names = listed(manager);
        REQUIRE(std::set<std::string>(names.begin(), names.end()) == all);
        REQUIRE(names.size() == all.size());
        REQUIRE(expect(manager.keys.list()).front().vtpms == all.size());
        manager.keys.close();
    }
    // The last of a part, and one whose name is not what is shown of it.
    expect(expect(Database::open(directory / "store.db"))
               .script(fmt::format("UPDATE vtpms SET uuid = substr(uuid, 1, 35) || char(10) WHERE uuid = '{}'; "
                                   "UPDATE vtpms SET uuid = char(10) || substr(uuid, 2) WHERE uuid = '{}'",
                                   *std::next(all.begin(), Store::kListedAtOnce - 2), *all.rbegin())
                           .c_str()));
    ManagerInProcess manager(directory.path(), tpm);
    REQUIRE_FALSE(manager.keys.unlock());
    const std::vector<std::string> names = listed(manager);
    REQUIRE(names.size() == all.size());
    REQUIRE(std::set<std::string>(names.begin(), names.end()).size() == all.size());
    REQUIRE(expect(manager.keys.list()).front().vtpms == all.size());
}

TEST_CASE_METHOD(Place, "a state is stored by what the row was last, whether that is remembered or in the store") {
    const Uuid uuid = Uuid::random();
    const auto stored = [&](ManagerInProcess &manager, std::uint64_t sequence) {
        return write(manager.inventory, {uuid, "default", StateKind::kPermanent, sequence, Bytes(50, 1)});
    };
    {
        Restarted manager(directory, tpm);
        expect(manager.vtpms.create(uuid, std::nullopt));
        expect(stored(manager, 1));
        manager.keys.close();
    }
    {
        Restarted manager(directory, tpm);
        expect(stored(manager, 2));
        expect(stored(manager, 3));
        manager.keys.close();
    }
    Restarted manager(directory, tpm);
    VtpmRecord foreign = expect(manager.store.find_vtpm(uuid)).value();
    REQUIRE(foreign.sequence == 3);
    foreign.endorsement = encode_endorsement({{{Bytes(300, 1), Bytes(900, 2)}}, false});
    expect(edited(manager.store, UpdateVtpm{foreign}));
    REQUIRE(expect_error(stored(manager, 4)).code == ErrorCode::kRefused);
}

TEST_CASE_METHOD(Fixture,
                 "a row that changed in the store while the group was open is refused, and vouched for by nothing") {
    expect(vtpms.prepare(uuid));
    VtpmRecord foreign = expect(store.find_vtpm(uuid)).value();
    foreign.endorsement = encode_endorsement({{{Bytes(300, 1), Bytes(900, 2)}}, false});
    expect(edited(store, UpdateVtpm{foreign}));
    const auto attest = [&] {
        return attestor.attest(uuid, Bytes(16, 1), std::nullopt, Attestor::Asked::kByTheAdministrator);
    };
    for (const Error &refused : {expect_error(vtpms.prepare(uuid)), expect_error(vtpms.open(uuid)),
                                 expect_error(vtpms.reissue(uuid)), expect_error(attest())}) {
        CHECK(refused.code == ErrorCode::kRefused);
        CHECK_THAT(refused.text, Contains("not as it was last written"));
    }
}

TEST_CASE_METHOD(Fixture,
                 "who asks for an attestation of a TPM 1.2 hears that there is none, and where its launch is") {
    expect(vtpms.create(uuid, TpmVersion::k12));
    const Error refused =
        expect_error(attestor.attest(uuid, Bytes(16, 1), std::nullopt, Attestor::Asked::kByTheAdministrator));
    CHECK(refused.code == ErrorCode::kWrongState);
    CHECK_THAT(refused.text, Contains("is a TPM 1.2") && Contains("--pcrs sha1:"));
}

}  // namespace vtpm::vtpms_test
