// SPDX-License-Identifier: Apache-2.0
// vTPMs that are powered on for launches that an approver signed, and what it takes that they are not so any more.
#include "manager/vtpm/launch_approvals.hpp"

#include <algorithm>

#include "engine_end.hpp"
#include "launched.hpp"
#include "manager/boot/launch_release.hpp"
#include "manager/crypto/encoding.hpp"
#include "manager/groups/boot_policies.hpp"
#include "manager/vtpm/power_on.hpp"
#include "manager_in_process.hpp"
#include "openssl_keys.hpp"
#include "temporary_directory.hpp"

namespace vtpm::launch_approvals_test {

namespace {

ApproverKey key_of(EVP_PKEY *key) { return expect(ApproverKey::from_pem(public_pem(key))); }

std::string document(LaunchTerms terms, EVP_PKEY *key = p256()) {
    return expect(LaunchApproval::sign(view(private_pem(key)), std::move(terms))).to_json();
}
LaunchTerms terms(std::uint32_t generation = 1) { return {"tenant", generation, {}, {approved("good", "ro")}}; }

struct Place {
    TemporaryDirectory directory;
    FakeTpm tpm;
};

struct Fixture : Place, ManagerInProcess {
    const Uuid uuid = Uuid::random();

    Fixture() : ManagerInProcess(directory.path(), tpm) {
        expect(keys.unlock());
        expect(keys.create({"tenant", {}, key_of(p256()), 1}));
        expect(vtpms.create(uuid, std::nullopt, "tenant", std::nullopt, LaunchPolicy::kRequireApproved));
    }
    VtpmRecord row() { return expect(store.find_vtpm(uuid)).value(); }
    Result<TpmVersion> start(const Bytes &launch) { return vtpms.prepare(uuid, Beginning::kPowerOn, launch); }
    // What the engine hears.
    PowerOnCommands power_on(const Bytes &launch) {
        PowerOnCommands answer;
        {
            EngineEnd engine(std::move(expect(vtpms.open(uuid, launch)).channel));
            engine.send(PowerOn{});
            turn();
            const auto received = engine.receive<PowerOnCommands>();
            text_ = received.text;
            answer.code = received.code;
        }
        turn();
        answer.text = text_;
        return answer;
    }
    std::string release(EVP_PKEY *key = p256()) {
        return expect(LaunchRelease::sign(view(private_pem(key)), uuid, row().launch_binding)).to_json();
    }
    std::size_t audited(std::string_view event) {
        return static_cast<std::size_t>(std::ranges::count(expect(store.audit_records()), event, &AuditRecord::event));
    }
    void store_a_state() {
        EngineEnd engine(std::move(expect(vtpms.open(uuid)).channel));
        engine.store(Bytes(100, 's'));
        turn();
        REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
    }

private:
    std::string text_;
};

}  // namespace

TEST_CASE("whether a launch is one that was approved for a vTPM") {
    VtpmRecord vtpm;
    vtpm.uuid = Uuid::random();
    vtpm.group = "tenant";
    vtpm.launch = LaunchPolicy::kRequireApproved;
    vtpm.launch_approver = key_of(p256()).public_area();
    vtpm.profile.pcr_banks = expect(PcrBanks::parse("sha256,sha384"));
    LaunchTerms here{"tenant", 2, {vtpm.uuid}, {approved("good", "ro")}};
    LaunchTerms all{"tenant", 2, {}, {approved("bad", "single"), approved("good", "ro")}};
    LaunchTerms elsewhere{"tenant", 2, {Uuid::random()}, {approved("good", "ro")}};
    LaunchTerms other_group{"other", 2, {}, {approved("good", "ro")}};
    LaunchTerms former{"tenant", 1, {}, {approved("good", "ro")}};
    LaunchTerms next{"tenant", 3, {}, {approved("good", "ro")}};
    LaunchTerms other_bank{"tenant", 2, {}, {approved("good", "ro", 'k', "sha512:4,9")}};
    LaunchTerms second_bank{"tenant", 2, {}, {approved("good", "ro", 'k', "sha384:4,9")}};
    const auto by = [](const LaunchTerms &terms, EVP_PKEY *key = p256()) {
        return expect(LaunchApproval::parse(document(terms, key)));
    };
    const std::string none = "none is installed";
    const struct {
        std::vector<LaunchApproval> approvals;
        Bytes launch;
        std::vector<std::string> refusal;  // what it says; empty: it is approved
    } cases[] = {
        {{by(here)}, launch_log("ro"), {}},
        {{by(all)}, launch_log("ro"), {}},
        {{by(second_bank)}, launch_log("ro"), {}},
        {{by(other_bank), by(former), by(all)}, launch_log("ro"), {}},
        {{by(here)}, launch_log("rw"), {"from 'good'", "its command line (PCR 8) differs"}},
        {{by(here)}, launch_log("ro", 'x'), {"its kernel (PCR 4) differs"}},
        {{by(here)}, launch_log("ro", 'k', 'x'), {"its initrd (PCR 9) differs"}},
        {{by(all)}, launch_log("single", 'x'), {"from 'bad'", "its kernel"}},
        {{by(here)}, Bytes(), {"nobody measured"}},
        {{}, launch_log("ro"), {none, "generation 2"}},
        {{by(elsewhere)}, launch_log("ro"), {none, "names other vTPMs"}},
        {{by(other_group)}, launch_log("ro"), {none}},
        {{by(former)}, launch_log("ro"), {none, "for another generation"}},
        {{by(next)}, launch_log("ro"), {none, "for another generation"}},
        {{by(other_bank)}, launch_log("ro"), {none, "PCR banks"}},
        {{by(here, rsa_2048())}, launch_log("ro"), {none, "another approver's"}},
        {{by(here)}, launch_log("ro", 'k', 'i', {launch::Hash::kSha256}), {"without digests of sha384"}},
        {{by(here)}, Bytes(100, 1), {"no event log"}},
    };
    for (const auto &one : cases) {
        const auto judged = approved_launch(vtpm, one.launch, 2, one.approvals);
        CAPTURE(&one - cases);
        REQUIRE(judged.has_value() == one.refusal.empty());
        if (judged) REQUIRE(*judged == "good");
        for (const std::string &words : one.refusal) REQUIRE_THAT(judged.error().text, Contains(words));
        if (!judged) REQUIRE(judged.error().text.size() < kMaxText);
    }
    vtpm.launch_approver.clear();  // a row that no manager wrote
    const std::vector approvals{by(here)};
    REQUIRE(expect_error(approved_launch(vtpm, launch_log("ro"), 2, approvals)).code == ErrorCode::kRefused);
}

TEST_CASE_METHOD(Fixture, "a vTPM is powered on for an approved launch, and for no other") {
    REQUIRE_THAT(expect_error(start(launch_log("ro"))).text, Contains("none is installed"));
    const std::string id = expect(approvals.install(document(terms())));
    expect(start(launch_log("ro")));
    REQUIRE(power_on(launch_log("ro")).code == ErrorCode::kNone);
    REQUIRE_THAT(expect_error(start(launch_log("init=/bin/sh"))).text, Contains("its command line"));
    REQUIRE_THAT(std::string(power_on(launch_log("init=/bin/sh")).text), Contains("its command line"));
    REQUIRE(power_on({}).code == ErrorCode::kRefused);
    expect(approvals.remove(id));
    REQUIRE(power_on(launch_log("ro")).code == ErrorCode::kRefused);
    REQUIRE(expect_error(approvals.remove(id)).code == ErrorCode::kNotFound);
}

TEST_CASE_METHOD(Fixture, "a refused launch is in the audit log once, and the vTPM shows why") {
    expect(approvals.install(document(terms())));
    for (int i = 0; i < 3; ++i) REQUIRE_FALSE(start(launch_log("rw")));
    REQUIRE(audited("launch-refused") == 1);
    REQUIRE_THAT(expect(vtpms.show(uuid)).refusal, Contains("its command line"));
    REQUIRE_FALSE(start(launch_log("ro", 'x')));
    REQUIRE(audited("launch-refused") == 2);
    expect(start(launch_log("ro")));
    REQUIRE(expect(vtpms.show(uuid)).refusal.empty());
    REQUIRE_FALSE(start(launch_log("ro", 'x')));
    REQUIRE(audited("launch-refused") == 3);
}

TEST_CASE_METHOD(Fixture, "nothing but a release by its approver makes a bound vTPM ask for less") {
    expect(approvals.install(document(terms())));
    for (const auto less : {LaunchPolicy::kOff, LaunchPolicy::kMeasure, LaunchPolicy::kRequire}) {
        REQUIRE_THAT(expect_error(vtpms.set_launch(uuid, less)).text,
                     Contains("stays so without his word") && Contains("--binding"));
        REQUIRE(expect_error(vtpms.set_launch(uuid, less, release(rsa_2048()))).code == ErrorCode::kRefused);
        REQUIRE(expect_error(vtpms.set_launch(uuid, less, document(terms()))).code == ErrorCode::kInvalid);
    }
    const std::string word = release();
    const Bytes binding = row().launch_binding;
    expect(vtpms.set_launch(uuid, LaunchPolicy::kRequireApproved));
    REQUIRE(row().launch_binding == binding);
    expect(vtpms.set_launch(uuid, LaunchPolicy::kMeasure, word));
    REQUIRE(row().launch_approver.empty());
    expect(start({}));
    REQUIRE(expect_error(vtpms.set_launch(uuid, LaunchPolicy::kOff, word)).code == ErrorCode::kInvalid);
    // It was good once.
    expect(vtpms.set_launch(uuid, LaunchPolicy::kRequireApproved));
    REQUIRE_THAT(expect_error(vtpms.set_launch(uuid, LaunchPolicy::kOff, word)).text, Contains("it is bound by"));
    REQUIRE_FALSE(start({}));
    const auto records = expect(store.audit_records());
    REQUIRE(std::ranges::count_if(records, [](const AuditRecord &record) {
                return record.event == "launch-policy-set" && record.detail == "measure, released by its approver";
            }) == 1);
}

TEST_CASE_METHOD(Fixture, "a vTPM stays with its approver, whoever is its group's") {
    expect(approvals.install(document(terms())));
    const bool none = GENERATE(false, true);
    expect(keys.reseal({"tenant", {}, none ? std::optional<ApproverKey>() : key_of(rsa_2048()), 1}));
    REQUIRE(approvals.install(document({"tenant", 1, {}, {approved("bad", "rw")}}, rsa_2048())).has_value() == !none);
    REQUIRE_THAT(expect_error(start(launch_log("rw"))).text, Contains("its command line"));
    expect(start(launch_log("ro")));
    REQUIRE_FALSE(vtpms.set_launch(uuid, LaunchPolicy::kRequireApproved));
    REQUIRE_FALSE(vtpms.set_launch(uuid, LaunchPolicy::kOff, release(rsa_2048())));
    // Who holds his key still approves launches.
    expect(approvals.install(document({"tenant", 1, {}, {approved("new", "new")}})));
    expect(start(launch_log("new")));
    if (none) return;
    expect(vtpms.set_launch(uuid, LaunchPolicy::kRequireApproved, release()));
    expect(start(launch_log("rw")));
    REQUIRE_FALSE(start(launch_log("ro")));
}

TEST_CASE_METHOD(Fixture, "a group without an approver has no vTPM that asks for his launches") {
    for (const auto &error : {expect_error(vtpms.create(std::nullopt, std::nullopt, "default", std::nullopt,
                                                        LaunchPolicy::kRequireApproved)),
                              expect_error(vtpms.set_launch(expect(vtpms.create(std::nullopt, std::nullopt)),
                                                            LaunchPolicy::kRequireApproved))}) {
        REQUIRE(error.code == ErrorCode::kInvalid);
        REQUIRE_THAT(error.text, Contains("no approver"));
    }
}

TEST_CASE_METHOD(Fixture, "what no vTPM could be launched by is not installed") {
    REQUIRE(expect_error(approvals.install("{}")).code == ErrorCode::kInvalid);
    LaunchTerms wrong = terms();
    wrong.group = "nobody";
    REQUIRE(expect_error(approvals.install(document(wrong))).code == ErrorCode::kNotFound);
    REQUIRE_THAT(expect_error(approvals.install(document(terms(), rsa_2048()))).text, Contains("not its approver"));
    REQUIRE_THAT(expect_error(approvals.install(document(terms(3)))).text, Contains("--generation 1"));
    for (std::size_t i = 0; i < LaunchApprovals::kMost; ++i)
        expect(approvals.install(document({"tenant", 1, {}, {approved(std::to_string(i), "ro")}})));
    const Error full = expect_error(approvals.install(document(terms())));
    REQUIRE(full.code == ErrorCode::kShortage);
    REQUIRE_THAT(full.text, Contains("launch remove"));
    expect(approvals.install(document({"tenant", 1, {}, {approved("0", "ro")}})));  // again
    REQUIRE(expect(approvals.list()).size() == LaunchApprovals::kMost);
}

TEST_CASE_METHOD(Fixture, "approvals that somebody with the disk changed approve nothing") {
    const std::string good = document(terms());
    const std::string id = expect(approvals.install(good));
    std::string forged = good;
    forged.replace(forged.find("\"good\""), 6, "\"evil\"");
    const std::string others = document({"tenant", 1, {}, {approved("good", "rw")}}, rsa_2048());
    const std::string former = document({"tenant", 2, {}, {approved("good", "rw")}});
    for (const std::string &bad : {forged, others, former, std::string("{"), std::string(100'000, ' ')}) {
        expect(edited(store, InsertLaunchApproval{{"bad", "tenant", bad, 1}}));
        expect(start(launch_log("ro")));
        REQUIRE_FALSE(start(launch_log("rw")));
        const auto list = expect(approvals.list());
        REQUIRE(std::ranges::count_if(list, [](const auto &info) { return !info.problem.empty(); }) == 1);
        expect(approvals.remove("bad"));
    }
    // In the place of a good one, which is good again when it is installed again.
    expect(edited(store, InsertLaunchApproval{{id, "tenant", forged, 1}}));
    REQUIRE_FALSE(start(launch_log("ro")));
    expect(approvals.install(good));
    expect(start(launch_log("ro")));
}

TEST_CASE_METHOD(Fixture, "a row that is bound to nobody any more, on the disk only, powers nothing on") {
    expect(approvals.install(document(terms())));
    VtpmRecord changed = row();
    SECTION("to another policy") { changed.launch = LaunchPolicy::kMeasure; }
    SECTION("to another approver") { changed.launch_approver = key_of(rsa_2048()).public_area(); }
    SECTION("to another binding") { changed.launch_binding = Bytes(16, 1); }
    SECTION("to what a former row's sum could be of") {
        changed.launch = LaunchPolicy::kOff;
        changed.launch_binding.clear();
    }
    expect(edited(store, UpdateVtpm{changed}));
    REQUIRE_THAT(expect_error(start(launch_log("ro"))).text, Contains("it is bound to"));
    REQUIRE_FALSE(vtpms.open(uuid, launch_log("ro")));
    REQUIRE_THAT(expect_error(vtpms.set_launch(uuid, LaunchPolicy::kOff)).text, Contains("not as it was last written"));
}

TEST_CASE_METHOD(Place, "rows that were changed do not free a bound vTPM, if the store is taken as it is") {
    const Uuid uuid = Uuid::random();
    VtpmRecord good;
    {
        ManagerInProcess manager(directory.path(), tpm);
        expect(manager.keys.unlock());
        expect(manager.keys.create({"tenant", {}, {}, 1}));
        expect(manager.keys.reseal({"tenant", {}, key_of(p256()), 1}));
        expect(manager.vtpms.create(uuid, std::nullopt, "tenant", std::nullopt, LaunchPolicy::kRequireApproved));
        expect(manager.keys.reseal({"tenant", {}, {}, 1}));
        good = expect(manager.store.find_vtpm(uuid)).value();
        manager.keys.close();
    }
    VtpmRecord changed = good;
    SECTION("to no approver") {
        changed.launch = GENERATE(LaunchPolicy::kOff, LaunchPolicy::kMeasure, LaunchPolicy::kRequire);
        if (GENERATE(false, true)) changed.launch_approver = changed.launch_binding = {};
    }
    SECTION("to another approver") { changed.launch_approver = key_of(rsa_2048()).public_area(); }
    SECTION("to another binding") { changed.launch_binding = Bytes(16, 1); }
    {
        SqliteStore store = expect(SqliteStore::open(directory.path()));
        expect(edited(store, UpdateVtpm{changed}));
    }
    ManagerInProcess manager(directory.path(), tpm);
    (void)manager.keys.unlock();
    REQUIRE_FALSE(manager.keys.key("tenant"));
    expect(manager.keys.accept_rollback("tenant"));
    REQUIRE_THAT(expect_error(manager.vtpms.prepare(uuid, Beginning::kPowerOn, launch_log("ro"))).text,
                 Contains("cannot be opened: it is bound to"));
    REQUIRE_FALSE(manager.vtpms.open(uuid, launch_log("ro")));
    REQUIRE_FALSE(manager.vtpms.set_launch(uuid, LaunchPolicy::kMeasure));
    REQUIRE_FALSE(manager.keys.rekey("tenant", GroupKeys::NewCa::kNo, *manager.vtpms.rotation()));
}

TEST_CASE_METHOD(Place, "a group's row that was changed brings no former generation back") {
    ManagerInProcess manager(directory.path(), tpm);
    expect(manager.keys.unlock());
    expect(manager.keys.create({"tenant", {}, key_of(p256()), 1}));
    BootPolicies policies(manager.store, manager.keys);
    for (const std::uint32_t generation : {1, 2}) {
        const BootApproval boot{
            "tenant", expect(PcrSelection::parse("sha256:4")), {{4, Bytes(32, 1)}}, std::nullopt, generation};
        expect(policies.install(expect(BootPolicy::sign(view(private_pem(p256())), boot)).to_json()));
    }
    const Uuid uuid = expect(
        manager.vtpms.create(std::nullopt, std::nullopt, "tenant", std::nullopt, LaunchPolicy::kRequireApproved));
    const std::string former = document(terms());
    expect(manager.approvals.install(former));
    expect(manager.keys.renew("tenant"));
    GroupRecord row = expect(manager.store.groups()).at(1);
    row.generation = 1;
    expect(edited(manager.store, SealGroup{row}));
    SECTION("resealed") { expect(manager.keys.reseal({"tenant", {}, {}, 1})); }
    SECTION("rekeyed") { expect(manager.keys.rekey("tenant", GroupKeys::NewCa::kNo, *manager.vtpms.rotation())); }
    SECTION("renewed") { REQUIRE_THAT(expect_error(manager.keys.renew("tenant")).text, Contains("--generation 3")); }
    REQUIRE_THAT(expect_error(manager.approvals.install(former)).text, Contains("which is at 2"));
    expect(edited(manager.store, InsertLaunchApproval{{"back", "tenant", former, 1}}));
    REQUIRE_THAT(expect_error(manager.vtpms.prepare(uuid, Beginning::kPowerOn, launch_log("ro"))).text,
                 Contains("for another generation"));
}

TEST_CASE_METHOD(Place, "a renewal ends the launches that were approved before, and a restart changes nothing") {
    const Uuid uuid = Uuid::random();
    const std::string former = document(terms());
    const auto boot = [](std::uint32_t generation) {
        const BootApproval approval{
            "tenant", expect(PcrSelection::parse("sha256:4")), {{4, Bytes(32, 1)}}, std::nullopt, generation};
        return expect(BootPolicy::sign(view(private_pem(p256())), approval)).to_json();
    };
    {
        ManagerInProcess manager(directory.path(), tpm);
        expect(manager.keys.unlock());
        expect(manager.keys.create({"tenant", {}, key_of(p256()), 1}));
        BootPolicies policies(manager.store, manager.keys);
        expect(policies.install(boot(1)));
        expect(policies.install(boot(2)));
        expect(manager.vtpms.create(uuid, std::nullopt, "tenant", std::nullopt, LaunchPolicy::kRequireApproved));
        expect(manager.approvals.install(former));
        const std::string next = expect(manager.approvals.install(document({"tenant", 2, {}, {approved("b", "rw")}})));
        REQUIRE_THAT(expect(manager.approvals.list()).at(1).problem + expect(manager.approvals.list()).at(0).problem,
                     Contains("group revoke-approvals tenant"));
        REQUIRE_FALSE(manager.vtpms.prepare(uuid, Beginning::kPowerOn, launch_log("rw")));
        expect(manager.keys.renew("tenant"));
        expect(manager.vtpms.prepare(uuid, Beginning::kPowerOn, launch_log("rw")));
        REQUIRE(expect(manager.approvals.list()).size() == 1);
        REQUIRE(expect(manager.approvals.list()).at(0).record.id == next);
        REQUIRE_THAT(expect_error(manager.approvals.install(former)).text, Contains("which is at 2"));
        // Who has the disk puts it back.
        expect(edited(manager.store, InsertLaunchApproval{{"back", "tenant", former, 1}}));
        REQUIRE_FALSE(manager.vtpms.prepare(uuid, Beginning::kPowerOn, launch_log("ro")));
        manager.keys.close();
    }
    ManagerInProcess manager(directory.path(), tpm);
    expect(manager.keys.unlock());
    expect(manager.vtpms.prepare(uuid, Beginning::kPowerOn, launch_log("rw")));
    REQUIRE_FALSE(manager.vtpms.prepare(uuid, Beginning::kPowerOn, launch_log("ro")));
    GroupRecord group = expect(manager.store.groups()).at(1);
    group.generation = 1;
    expect(edited(manager.store, SealGroup{group}));
    REQUIRE_FALSE(manager.vtpms.prepare(uuid, Beginning::kPowerOn, launch_log("ro")));
}

TEST_CASE_METHOD(Fixture, "a backup has what its vTPM asks of launches, and does not take a bound one's binding away") {
    expect(approvals.install(document(terms())));
    expect(vtpms.set_launch(uuid, LaunchPolicy::kMeasure, release()));
    store_a_state();
    turn();
    const std::string free = expect(vtpms.export_vtpm(uuid));
    expect(vtpms.set_launch(uuid, LaunchPolicy::kRequireApproved));
    const std::string word = release();
    const std::string bound = expect(vtpms.export_vtpm(uuid));
    const VtpmRecord before = row();

    ImportOrder replace;
    replace.replace = true;
    expect(vtpms.import_vtpm(free, replace));
    REQUIRE(row().launch == LaunchPolicy::kRequireApproved);
    REQUIRE(row().launch_approver == before.launch_approver);
    REQUIRE(row().launch_binding == before.launch_binding);
    REQUIRE_FALSE(start(launch_log("rw")));

    expect(vtpms.destroy(uuid));
    expect(vtpms.import_vtpm(bound, {}));
    const auto last = expect(store.last_audit_record()).value();
    REQUIRE((last.event == "vtpm-imported" && last.detail.find("require-approved, by SHA256:") != std::string::npos));
    REQUIRE(row().launch_approver == before.launch_approver);
    REQUIRE_FALSE(start(launch_log("rw")));
    expect(start(launch_log("ro")));
    // It is another binding.
    REQUIRE_FALSE(vtpms.set_launch(uuid, LaunchPolicy::kOff, word));
}

TEST_CASE_METHOD(Fixture, "a vTPM stays bound while its group is rekeyed, and its certificates are ordered") {
    expect(approvals.install(document(terms())));
    const VtpmRecord before = row();
    expect(keys.rekey("tenant", GroupKeys::NewCa::kNo, *vtpms.rotation()));
    REQUIRE(row().launch_binding == before.launch_binding);
    expect(start(launch_log("ro")));
    REQUIRE_FALSE(start(launch_log("rw")));
    expect(vtpms.reissue_group("tenant", Vtpms::Order::kGive));
    REQUIRE_FALSE(start(launch_log("rw")));
}

TEST_CASE_METHOD(Fixture, "a vTPM that runs meanwhile is bound from its next power-on, and stays so") {
    expect(approvals.install(document(terms())));
    expect(vtpms.set_launch(uuid, LaunchPolicy::kOff, release()));
    EngineEnd engine(std::move(expect(vtpms.open(uuid)).channel));
    expect(vtpms.set_launch(uuid, LaunchPolicy::kRequireApproved));
    engine.store(Bytes(100, 's'));
    turn();
    REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
    engine.send(PowerOn{});
    turn();
    REQUIRE(engine.receive<PowerOnCommands>().code == ErrorCode::kRefused);
    expect(inventory.verify(row()));
}

TEST_CASE_METHOD(Fixture, "a record that a vTPM cannot use is refused when its guest is started, not at the power-on") {
    const auto sha384 = expect(PcrBanks::parse("sha384"));
    const Uuid other = expect(vtpms.create(std::nullopt, std::nullopt, "default", sha384, LaunchPolicy::kMeasure));
    const Error refused =
        expect_error(vtpms.prepare(other, Beginning::kPowerOn, launch_log("ro", 'k', 'i', {launch::Hash::kSha256})));
    REQUIRE(refused.code == ErrorCode::kInvalid);
    REQUIRE_THAT(refused.text, Contains("without digests of sha384"));
    REQUIRE_THAT(expect(vtpms.show(other)).refusal, Contains("without digests of sha384"));
    REQUIRE(audited("launch-refused") == 1);
    expect(vtpms.prepare(other, Beginning::kPowerOn, launch_log("ro")));
}

}  // namespace vtpm::launch_approvals_test
