// SPDX-License-Identifier: Apache-2.0
// The disk is full, or fails, at each point at which an operation of the manager writes. Whatever was acknowledged is
// there afterwards, also after a crash or a power cut; what was not is there as a whole or not at all; and the manager
// goes on when the disk does.
#include <algorithm>
#include <functional>
#include <memory>

#include "engine_end.hpp"
#include "failing_vfs.hpp"
#include "manager/groups/boot_policies.hpp"
#include "manager/vtpm/stored_state.hpp"
#include "manager_in_process.hpp"
#include "openssl_keys.hpp"
#include "quiet_errors.hpp"
#include "temporary_directory.hpp"

namespace vtpm::disk_failure_test {
using failing_vfs::Broken;

namespace {

const Uuid kOne = Uuid::random();     // of the default group, and
const Uuid kTwo = Uuid::random();     // of the tenant's: nobody touches them
const Uuid kTarget = Uuid::random();  // of the default group
const Uuid kFresh = Uuid::random();   // not there at first

Bytes text(std::string_view text) { return {text.begin(), text.end()}; }

struct Manager : ManagerInProcess {
    BootPolicies policies{store, keys};
    using ManagerInProcess::ManagerInProcess;
};

// A state directory with its TPM, and the manager that works there, if it came up.
struct Place {
    TemporaryDirectory directory{TemporaryDirectory::fast()};
    FakeTpm tpm;
    std::unique_ptr<Manager> manager;
    std::unique_ptr<EngineEnd> engine;  // of kTarget

    Result<> start(const char *vfs = nullptr) {
        if (!manager) {
            VTPM_ASSIGN(SqliteStore store, SqliteStore::open(directory.path(), vfs));
            manager = std::make_unique<Manager>(std::move(store), tpm);
        }
        return manager->keys.unlock();
    }
    void crash() {
        engine.reset();
        manager.reset();
    }
    // As it would be after a crash of the manager in this moment.
    void copy_to(const Place &other) const {
        std::filesystem::copy(
            directory.path(), other.directory.path(),
            std::filesystem::copy_options::overwrite_existing | std::filesystem::copy_options::recursive);
    }
    void run_sql(const char *sql) const { expect(expect(Database::open(directory / "store.db")).script(sql)); }
};

std::string policy_of_boot(std::uint8_t boot, std::uint32_t generation = 1) {
    const BootApproval approval{
        "tenant", expect(PcrSelection::parse("sha256:7")), {{7, Bytes(32, boot)}}, std::nullopt, generation};
    return expect(BootPolicy::sign(view(private_pem(p256())), approval)).to_json();
}

Result<> ask_to_store(Place &place, StateKind kind, const Bytes &state) {
    if (!place.engine) {
        VTPM_ASSIGN(OpenedVtpm opened, place.manager->vtpms.open(kTarget));
        place.engine = std::make_unique<EngineEnd>(std::move(opened.channel));
    }
    place.engine->send(StoreState{kind, state});
    do place.manager->turn(0);
    while (!wait_readable(place.engine->fd(), std::chrono::milliseconds(0)));
    const auto answer = place.engine->receive<StoredState>();
    if (answer.code == ErrorCode::kNone) return {};
    return tl::make_unexpected(Error{answer.code, std::string(answer.text)});
}

Result<> ask_to_load_volatile(Place &place) {
    if (!place.engine) {
        VTPM_ASSIGN(OpenedVtpm opened, place.manager->vtpms.open(kTarget));
        place.engine = std::make_unique<EngineEnd>(std::move(opened.channel));
    }
    place.engine->load(StateKind::kVolatile);
    place.manager->turn(0);
    const auto answer = place.engine->receive<LoadedState>();
    if (answer.code != ErrorCode::kNone) {
        REQUIRE(answer.state.empty());
        return tl::make_unexpected(Error{answer.code, std::string(answer.text)});
    }
    REQUIRE(std::ranges::equal(answer.state, text("old volatile")));
    return {};
}

// Without an engine, so that a volatile state is not used up.
std::string state_of(Manager &manager, const Uuid &uuid, StateKind kind) {
    const auto record = expect(manager.store.find_vtpm(uuid));
    if (!record) return "no vTPM";
    const Key key = expect(key_of(*expect(manager.keys.key(record->group)), *record));
    const auto state = open_stored_state(manager.store, *record, key, kind);
    if (state) return {state->view().begin(), state->view().end()};
    if (state.error().code != ErrorCode::kNotFound) FAIL(state.error().text);
    return "none";
}

std::string states_of(Manager &manager, const Uuid &uuid) {
    return state_of(manager, uuid, StateKind::kPermanent) + ", " + state_of(manager, uuid, StateKind::kVolatile);
}

bool has_group(Manager &manager, const std::string &name) {
    const auto groups = expect(manager.store.groups());
    return std::ranges::find(groups, name, &GroupRecord::name) != groups.end();
}

enum class Content { kOld, kNew };

struct Operation {
    const char *name;
    std::function<Result<>(Place &)> run;
    // What `run` changes: as it was, or as it is to be; anything between is the end of the test.
    std::function<Content(Manager &)> content;
    const char *event = nullptr;  // of the audit log: there with the new content, and not with the old
    std::function<void(Place &)> before = [](Place &) {};  // in the closed store
    bool on_started = true;                                // a manager that has opened its groups
    bool can_fail = true;                                  // it has an answer
    bool has_guests = true;                                // whose states must be there
};

Content either(const std::string &value, const std::string &before, const std::string &after) {
    if (value != before && value != after) FAIL("neither the old nor the new: " << value);
    return value == after ? Content::kNew : Content::kOld;
}

Content if_there(bool there) { return there ? Content::kNew : Content::kOld; }

std::vector<Operation> operations() {
    std::vector<Operation> all;
    all.push_back({"the first start", [](Place &place) { return place.start(failing_vfs::kName); },
                   [](Manager &manager) { return if_there(manager.keys.key("default").has_value()); }, nullptr,
                   [](Place &place) {
                       std::filesystem::remove(place.directory / "store.db");
                       std::filesystem::remove(place.directory / "store.id");
                       place.tpm.epochs.clear();
                   },
                   false, true, false});
    all.push_back({"a first start in the place of a store that is lost",
                   [](Place &place) { return place.manager->keys.start_anew(); },
                   [](Manager &manager) { return if_there(manager.keys.key("default").has_value()); }, nullptr,
                   [](Place &place) {
                       std::filesystem::remove(place.directory / "store.db");
                       std::filesystem::remove(place.directory / "store.id");
                   },
                   true, true, false});
    all.push_back({"a start",
                   [](Place &place) -> Result<> {
                       VTPM_TRY(place.start(failing_vfs::kName));
                       if (place.manager->keys.waits())
                           return fail(ErrorCode::kUnavailable, "a group does not open yet");
                       return {};
                   },
                   [](Manager &manager) {
                       if (!manager.keys.state() || manager.keys.waits()) return Content::kOld;
                       for (const char *group : {"default", "tenant", "spare"}) expect(manager.keys.key(group));
                       return Content::kNew;
                   },
                   nullptr, [](Place &) {}, false});
    all.push_back(
        {"creation of a vTPM",
         [](Place &place) -> Result<> {
             VTPM_TRY(place.manager->vtpms.create(kFresh, std::nullopt));
             return {};
         },
         [](Manager &manager) { return either(states_of(manager, kFresh), "no vTPM, no vTPM", "none, none"); },
         "vtpm-created"});
    all.push_back(
        {"storing a permanent state",
         [](Place &place) { return ask_to_store(place, StateKind::kPermanent, text("new")); },
         [](Manager &manager) { return either(states_of(manager, kTarget), "old, old volatile", "new, none"); }});
    all.push_back({"storing a permanent state of many pages",
                   [](Place &place) { return ask_to_store(place, StateKind::kPermanent, Bytes(30'000, 'n')); },
                   [](Manager &manager) {
                       return either(states_of(manager, kTarget), "old, old volatile",
                                     std::string(30'000, 'n') + ", none");
                   }});
    all.push_back({"storing a volatile state",
                   [](Place &place) { return ask_to_store(place, StateKind::kVolatile, text("new volatile")); },
                   [](Manager &manager) {
                       return either(states_of(manager, kTarget), "old, old volatile", "old, new volatile");
                   }});
    all.push_back({"loading a volatile state", ask_to_load_volatile, [](Manager &manager) {
                       return either(states_of(manager, kTarget), "old, old volatile", "old, none");
                   }});
    all.push_back(
        {"destruction of a vTPM", [](Place &place) { return place.manager->vtpms.destroy(kTarget); },
         [](Manager &manager) { return either(states_of(manager, kTarget), "old, old volatile", "no vTPM, no vTPM"); },
         "vtpm-destroyed"});
    all.push_back({"creation of a group",
                   [](Place &place) {
                       return place.manager->keys.create({"fresh", {}, {}, 1});
                   },
                   [](Manager &manager) {
                       REQUIRE(manager.keys.has("fresh") == has_group(manager, "fresh"));
                       const auto key = manager.keys.key("fresh");
                       // Neither begun nor undone: known as such until it is created again.
                       if (!key && manager.keys.has("fresh")) REQUIRE(key.error().code == ErrorCode::kStoreFailed);
                       return if_there(key.has_value());
                   }});
    all.push_back({"sealing a group anew",
                   [](Place &place) {
                       return place.manager->keys.reseal({"spare", expect(PcrSelection::parse("sha256:7")), {}, 1});
                   },
                   [](Manager &manager) {
                       const KeyPolicy policy = expect(manager.keys.policy("spare"));
                       return either(fmt::format("{} {}", policy.pcrs.to_string(), policy.generation), " 1",
                                     "sha256:7 1");
                   },
                   "group-resealed"});
    all.push_back({"renewal of a group", [](Place &place) { return place.manager->keys.renew("tenant"); },
                   [](Manager &manager) {
                       const KeyPolicy policy = expect(manager.keys.policy("tenant"));
                       expect(manager.keys.key("tenant"));
                       return either(fmt::format("{} {}", policy.generation, expect(manager.store.policies()).size()),
                                     "1 3", "2 1");
                   },
                   "group-renewed",
                   [](Place &place) {
                       place.start();
                       expect(place.manager->policies.install(policy_of_boot(place.tpm.boot, 2)));
                       place.manager->keys.close();
                       place.crash();
                   }});
    all.push_back({"another key for a group",
                   [](Place &place) {
                       Manager &manager = *place.manager;
                       return manager.keys.rekey("default", GroupKeys::NewCa::kNo, *manager.vtpms.rotation());
                   },
                   [](Manager &manager) {
                       const GroupRecord group = expect(manager.keys.record("default"));
                       expect(manager.keys.key("default"));
                       const bool rekeyed = group.nv_index > FakeTpm::kToOther;
                       REQUIRE(group.recovery.empty() == rekeyed);
                       REQUIRE(states_of(manager, kTarget) == "old, old volatile");
                       return if_there(rekeyed);
                   },
                   "group-rekeyed",
                   [](Place &place) {
                       place.start();
                       expect(place.manager->keys.export_recovery_key("default", GroupKeys::Replace::kNo));
                       place.manager->keys.close();
                       place.crash();
                   }});
    all.push_back({"deletion of a group", [](Place &place) { return place.manager->keys.remove("spare"); },
                   [](Manager &manager) {
                       const bool there = has_group(manager, "spare");
                       REQUIRE(manager.keys.has("spare") == there);
                       return if_there(!there);
                   },
                   "group-deleted"});
    all.push_back({"giving up a group that is lost", [](Place &place) { return place.manager->keys.discard("spare"); },
                   [](Manager &manager) { return if_there(!has_group(manager, "spare")); }, "group-discarded",
                   [](Place &place) { place.run_sql("UPDATE groups SET private_area = x'00' WHERE name = 'spare'"); }});
    all.push_back({"installation of a boot policy",
                   [](Place &place) -> Result<> {
                       static const std::string document = policy_of_boot(3);
                       VTPM_TRY(place.manager->policies.install(document));
                       return {};
                   },
                   [](Manager &manager) { return if_there(expect(manager.store.policies()).size() == 3); }});
    all.push_back(
        {"revocation of a boot policy",
         [](Place &place) {
             const auto policies = expect(place.manager->policies.list());
             const auto other = std::ranges::find_if(
                 policies, [](const BootPolicyInfo &info) { return info.approval->values.at(7) == Bytes(32, 2); });
             REQUIRE(other != policies.end());
             return place.manager->policies.revoke(other->record.id);
         },
         [](Manager &manager) { return if_there(expect(manager.store.policies()).size() == 1); }, "policy-revoked"});
    all.push_back({"acceptance of an older store",
                   [](Place &place) { return place.manager->keys.accept_rollback("spare"); },
                   [](Manager &manager) { return if_there(manager.keys.key("spare").has_value()); }, nullptr,
                   [](Place &place) { place.run_sql("UPDATE groups SET manifest = x'00' WHERE name = 'spare'"); }});
    all.push_back({"a clean end",
                   [](Place &place) -> Result<> {
                       place.manager->keys.close();
                       return {};
                   },
                   [](Manager &manager) {
                       if (!manager.keys.state()) expect(manager.keys.unlock());
                       for (const char *group : {"default", "tenant", "spare"}) expect(manager.keys.key(group));
                       return Content::kNew;
                   },
                   nullptr, [](Place &) {}, true, false});
    return all;
}

// The store that the operations begin with; made once.
const Place &beginning() {
    static const std::unique_ptr<Place> place = [] {
        auto made = std::make_unique<Place>();
        expect(made->start());
        Manager &manager = *made->manager;
        expect(manager.keys.create({"tenant", {}, expect(ApproverKey::from_pem(public_pem(p256()))), 1}));
        expect(manager.keys.create({"spare", {}, {}, 1}));
        for (const std::uint8_t boot : {made->tpm.boot, std::uint8_t{2}})
            expect(manager.policies.install(policy_of_boot(boot)));
        for (const Uuid &uuid : {kOne, kTwo, kTarget}) {
            expect(manager.vtpms.create(uuid, std::nullopt, uuid == kTwo ? "tenant" : "default"));
            EngineEnd engine(std::move(expect(manager.vtpms.open(uuid)).channel));
            for (const StateKind kind : {StateKind::kPermanent, StateKind::kVolatile}) {
                const Bytes state = text(kind == StateKind::kPermanent ? "old" : "old volatile");
                engine.send(StoreState{kind, state});
                manager.turn();
                REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
            }
        }
        manager.keys.close();
        made->crash();
        return made;
    }();
    return *place;
}

struct Fixture {
    const Place &begun = beginning();
    std::size_t runs = 0;
    std::size_t refused = 0;

    void check(const Operation &operation, Manager &manager, Content content) {
        const auto records = expect(manager.store.audit_records());
        expect(verify_chain(records));
        if (operation.event != nullptr) {
            const bool recorded = std::ranges::any_of(records, [&](const AuditRecord &record) {
                return record.event == operation.event && record.number > records_before;
            });
            REQUIRE(recorded == (content == Content::kNew));
        }
        if (!operation.has_guests) return;
        REQUIRE(states_of(manager, kOne) == "old, old volatile");
        REQUIRE(states_of(manager, kTwo) == "old, old volatile");
        expect(manager.vtpms.prepare(kOne, Beginning::kResume));
        expect(manager.vtpms.prepare(kTwo, Beginning::kResume));
    }

    // A manager that comes up on what another one left.
    Content check_next(const Operation &operation, Place &place) {
        const auto started = place.start();
        if (!started && (operation.has_guests || place.manager == nullptr)) FAIL(started.error().text);
        const Content content = operation.content(*place.manager);
        check(operation, *place.manager, content);
        return content;
    }

    // Whether the fault was met.
    bool run(const Operation &operation, Broken broken, bool once, int at) {
        ++runs;
        Place place;
        Place crashed;
        Place without_power;
        begun.copy_to(place);
        place.tpm = begun.tpm;
        operation.before(place);
        place.copy_to(without_power);
        failing_vfs::Faults &faults = failing_vfs::faults();
        if (operation.on_started) (void)place.start(failing_vfs::kName);
        if (place.manager != nullptr) records_before = std::ssize(expect(place.manager->store.audit_records()));

        faults.broken = broken;
        faults.once = once;
        faults.at = at;
        faults.points = 0;
        const Result<> done = operation.run(place);
        const bool met = faults.met();
        INFO((done ? "it said that it is done" : done.error().text));
        if (!done) {
            ++refused;
            REQUIRE(met);
            REQUIRE_FALSE(done.error().text.empty());
        }
        place.copy_to(crashed);
        failing_vfs::copy_what_is_durable(place.directory.path(), without_power.directory.path());
        if (std::filesystem::exists(place.directory / "store.id"))
            std::filesystem::copy_file(place.directory / "store.id", without_power.directory / "store.id",
                                       std::filesystem::copy_options::overwrite_existing);
        faults.broken = Broken::kNothing;
        for (Place *left : {&crashed, &without_power}) {
            INFO((left == &crashed ? "after a crash" : "after a power cut"));
            left->tpm = place.tpm;
            const Content content = check_next(operation, *left);
            if (done) REQUIRE(content == Content::kNew);
        }
        go_on(operation, place, done);
        return met;
    }

private:
    // The disk works again: what failed can be done now, by the same manager.
    void go_on(const Operation &operation, Place &place, const Result<> &done) {
        INFO("it goes on");
        const Content before = place.manager ? operation.content(*place.manager) : Content::kOld;
        if (done) REQUIRE(before == Content::kNew);
        if (before == Content::kOld) expect(operation.run(place));
        REQUIRE(operation.content(*place.manager) == Content::kNew);
        check(operation, *place.manager, Content::kNew);
        place.crash();
        INFO("and is started again");
        REQUIRE(check_next(operation, place) == Content::kNew);
    }

    std::int64_t records_before = 0;
};

}  // namespace

TEST_CASE_METHOD(Fixture, "wherever the disk fails, what was acknowledged stays, and the manager goes on when it can") {
    const QuietErrors quiet;
    const auto all = operations();
    const auto which = GENERATE_COPY(range(std::size_t{0}, all.size()));
    const Operation &operation = all[which];
    for (const Broken broken : {Broken::kFull, Broken::kDisk})
        for (const bool once : {false, true}) {
            int at = 0;
            for (bool met = true; met; ++at) {
                INFO(operation.name << ", " << (broken == Broken::kFull ? "full" : "broken") << " at point " << at
                                    << (once ? ", once" : ""));
                met = run(operation, broken, once, at);
            }
        }
    if (operation.can_fail) REQUIRE(refused > 0);
}

}  // namespace vtpm::disk_failure_test
