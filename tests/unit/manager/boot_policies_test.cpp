// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/boot_policies.hpp"

#include <algorithm>
#include <optional>

#include "edited.hpp"
#include "expect.hpp"
#include "fake_sealer.hpp"
#include "manager/store/sqlite_store.hpp"
#include "openssl_keys.hpp"
#include "temporary_directory.hpp"

namespace vtpm::boot_policies_test {

namespace {

ApproverKey approver() { return expect(ApproverKey::from_pem(public_pem(p256()))); }

struct Fixture {
    TemporaryDirectory directory;
    FakeTpm tpm;
    SqliteStore store = expect(SqliteStore::open(directory.path()));
    std::optional<GroupKeys> started{std::in_place, store, "tpm", tpm.opener()};
    GroupKeys &keys = *started;
    BootPolicies policies{store, keys};

    Fixture() {
        expect(keys.unlock());
        expect(keys.create({"tenant", {}, approver(), 1}));
    }

    // Of a boot in which every byte of every PCR is `boot`.
    static BootApproval approval(std::uint8_t boot, std::uint32_t generation = 1) {
        return {"tenant",
                expect(PcrSelection::parse("sha256:4,7")),
                {{4, Bytes(32, boot)}, {7, Bytes(32, boot)}},
                std::nullopt,
                generation};
    }
    static std::string document(const BootApproval &approval, EVP_PKEY *key = p256()) {
        return expect(BootPolicy::sign(view(private_pem(key)), approval)).to_json();
    }
    GroupRecord tenant() { return expect(store.groups()).at(1); }
    [[nodiscard]] std::vector<std::string> events() {
        std::vector<std::string> all;
        for (const AuditRecord &record : expect(store.audit_records())) all.push_back(record.event);
        return all;
    }
    Error refused(const std::string &document) { return expect_error(policies.install(document)); }
    // A restart of the manager in a boot.
    Result<> restart(std::uint8_t boot) {
        tpm.boot = boot;
        started.emplace(store, "tpm", tpm.opener());
        expect(keys.unlock());
        if (const auto key = keys.key("tenant"); !key) return tl::make_unexpected(key.error());
        return {};
    }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "a group with an approver opens in the boots that he approved, and in no other") {
    REQUIRE_THAT(expect_error(restart(1)).text, Contains("approved no boot of this host"));
    expect(policies.install(document(approval(1))));
    expect(policies.install(document(approval(2))));
    expect(restart(1));
    expect(restart(2));
    const Error error = expect_error(restart(3));
    REQUIRE(error.code == ErrorCode::kRefused);
    REQUIRE_THAT(error.text, Contains("no boot policy (of 2)") && Contains("PCR 4 approved 0") && Contains("is 03"));
}

TEST_CASE_METHOD(Fixture, "the policy that comes nearest is the one that a refusal speaks of") {
    BootApproval near = approval(9);
    near.values[4] = Bytes(32, 3);
    expect(policies.install(document(approval(1))));
    expect(policies.install(document(near)));
    const Error error = expect_error(restart(3));
    REQUIRE_THAT(error.text, Contains("PCR 7 approved 09") && !Contains("PCR 4"));
}

TEST_CASE_METHOD(Fixture, "a policy that approves the present boot opens the group at once") {
    REQUIRE_FALSE(restart(1));
    expect(policies.install(document(approval(2))));
    REQUIRE_FALSE(keys.key("tenant"));
    expect(policies.install(document(approval(1))));
    expect(keys.key("tenant"));
}

TEST_CASE_METHOD(Fixture, "a revoked policy opens nothing") {
    const std::string id = expect(policies.install(document(approval(1))));
    expect(restart(1));
    expect(policies.revoke(id));
    REQUIRE_FALSE(restart(1));
    REQUIRE(expect_error(policies.revoke(id)).code == ErrorCode::kNotFound);
    REQUIRE(expect(policies.list()).empty());
}

TEST_CASE_METHOD(Fixture, "a policy is installed once, however often") {
    const std::string signed_once = document(approval(1));
    REQUIRE(expect(policies.install(signed_once)) == expect(policies.install(signed_once)));
    REQUIRE(expect(policies.list()).size() == 1);
    REQUIRE(expect(keys.list()).at(1).policies == 1);
}

TEST_CASE_METHOD(Fixture, "what cannot open the group is not installed") {
    REQUIRE(refused("{}").code == ErrorCode::kInvalid);
    BootApproval wrong = approval(1);
    wrong.group = "nobody";
    REQUIRE(refused(document(wrong)).code == ErrorCode::kNotFound);
    wrong.group = "default";
    REQUIRE_THAT(refused(document(wrong)).text, Contains("'default' has no approver"));
    REQUIRE_THAT(refused(document(approval(1), rsa_2048())).text,
                 Contains("the approver is " + approver().fingerprint()));
    wrong = approval(1);
    wrong.not_after = 1;
    REQUIRE_THAT(refused(document(wrong)).text, Contains("expired"));
    wrong = approval(1);
    wrong.generation = 3;
    REQUIRE_THAT(refused(document(wrong)).text, Contains("--generation 1"));
    REQUIRE(refused(document({"tenant", expect(PcrSelection::parse("sha512:7")), {{7, Bytes(64)}}})).code ==
            ErrorCode::kRefused);
    REQUIRE(expect(policies.list()).empty());
}

TEST_CASE_METHOD(Fixture, "a policy that expires later opens nothing then, and the list says so") {
    BootApproval soon = approval(1);
    soon.not_after = std::time(nullptr) + 3600;
    const std::string id = expect(policies.install(document(soon)));
    expect(restart(1));
    soon.not_after = 1;
    const BootPolicy expired = expect(BootPolicy::parse(document(soon)));
    expect(edited(store, DeletePolicy{id}));
    expect(edited(store, InsertPolicy{{expired.id(), "tenant", expired.to_json(), 1}}));
    REQUIRE_THAT(expect_error(restart(1)).text, Contains("expired"));
    REQUIRE_THAT(expect(policies.list()).at(0).problem, Contains("expired"));
}

TEST_CASE_METHOD(Fixture, "a damaged policy in the store is passed over") {
    expect(policies.install(document(approval(1))));
    expect(edited(store, InsertPolicy{{"damaged", "tenant", "{", 1}}));
    expect(restart(1));
    const auto list = expect(policies.list());
    REQUIRE(list.size() == 2);
    REQUIRE(std::ranges::count_if(list, [](const BootPolicyInfo &info) { return !info.problem.empty(); }) == 1);
}

TEST_CASE_METHOD(Fixture, "a group is sealed to something else while it is open, and keeps its key") {
    const auto before = expect(keys.key("tenant"))->view();
    const Bytes key(before.begin(), before.end());
    expect(keys.reseal({"tenant", {}, {}, 1}));
    expect(restart(7));
    REQUIRE(std::ranges::equal(expect(keys.key("tenant"))->view(), key));
    expect(keys.reseal({"tenant", {}, approver(), 1}));
    const Error error = expect_error(restart(7));
    REQUIRE(error.code == ErrorCode::kRefused);
    REQUIRE(expect_error(keys.reseal({"tenant", {}, {}, 1})).code == ErrorCode::kRefused);
    REQUIRE(expect_error(keys.reseal({"nobody", {}, {}, 1})).code == ErrorCode::kRefused);
}

TEST_CASE_METHOD(Fixture, "a group's policies go with it") {
    expect(policies.install(document(approval(1))));
    expect(keys.remove("tenant"));
    REQUIRE(expect(policies.list()).empty());
}

TEST_CASE_METHOD(Fixture, "an approver's key that is damaged in the store refuses its group only") {
    GroupRecord record = expect(store.groups()).at(1);
    record.approver.back() ^= 1;
    expect(edited(store, SealGroup{record}));
    REQUIRE_THAT(expect_error(restart(1)).text, Contains("approver's key in the store is damaged"));
    expect(keys.key("default"));
}

TEST_CASE_METHOD(Fixture, "a renewal ends what was approved before, and what is approved for it counts") {
    const std::string former = document(approval(1));
    expect(policies.install(former));
    expect(policies.install(document(approval(2))));
    const std::string next = expect(policies.install(document(approval(1, 2))));
    const auto list = expect(policies.list());
    REQUIRE(std::ranges::count_if(list, [](const BootPolicyInfo &info) { return info.problem.empty(); }) == 2);
    REQUIRE(std::ranges::count_if(list, [](const BootPolicyInfo &info) {
                return info.problem.find("generation 2 on: xen-vtpm group revoke-approvals tenant") !=
                       std::string::npos;
            }) == 1);
    REQUIRE(expect(keys.list()).at(1).policies == 2);
    REQUIRE(expect(keys.list()).at(1).next_policies == 1);
    expect(restart(1));  // both generations approve it, and the present one counts

    expect(keys.renew("tenant"));
    REQUIRE(tenant().generation == 2);
    const auto left = expect(policies.list());
    REQUIRE(left.size() == 1);
    REQUIRE((left[0].record.id == next && left[0].problem.empty()));
    REQUIRE(std::ranges::count(events(), "group-renewed") == 1);
    REQUIRE(std::ranges::count(events(), "policy-removed") == 2);
    expect(keys.key("tenant"));
    expect(restart(1));
    REQUIRE_FALSE(restart(2));
    REQUIRE_THAT(refused(former).text, Contains("which is at 2: have it signed with --generation 2"));
}

TEST_CASE_METHOD(Fixture,
                 "nobody locks himself out by revoking, while a group is renewed, what the renewal stands on") {
    expect(policies.install(document(approval(1))));
    const std::string next = expect(policies.install(document(approval(1, 2))));
    expect(restart(1));
    tpm.meanwhile = [&] { expect(policies.revoke(next)); };
    const Error error = expect_error(keys.renew("tenant"));
    REQUIRE(error.code == ErrorCode::kInUse);
    REQUIRE_THAT(error.text, Contains(next + " was removed meanwhile"));
    tpm.meanwhile = nullptr;
    REQUIRE(tenant().generation == 1);
    REQUIRE_THAT(expect_error(keys.renew("tenant")).text, Contains("--generation 2"));
    expect(policies.install(document(approval(1, 2))));
    expect(keys.renew("tenant"));
    expect(restart(1));
}

TEST_CASE_METHOD(Fixture, "nobody locks himself out by a renewal") {
    expect(policies.install(document(approval(1))));
    expect(policies.install(document(approval(2, 2))));
    BootApproval soon = approval(1, 2);
    soon.not_after = 1;
    const BootPolicy expired = expect(BootPolicy::parse(document(soon)));
    expect(edited(store, InsertPolicy{{expired.id(), "tenant", expired.to_json(), 1}}));
    const GroupRecord before = tenant();
    const auto counters = tpm.counters;
    const Error error = expect_error(keys.renew("tenant"));
    REQUIRE(error.code == ErrorCode::kRefused);
    REQUIRE_THAT(error.text, Contains("--generation 2") && Contains("expired"));
    REQUIRE(tenant().key.public_area == before.key.public_area);
    REQUIRE(tenant().generation == 1);
    REQUIRE(tpm.counters == counters);
    expect(restart(1));
    REQUIRE(expect_error(keys.renew("default")).code == ErrorCode::kWrongState);
    REQUIRE(expect_error(keys.renew("nobody")).code == ErrorCode::kRefused);
    REQUIRE_FALSE(restart(3));
    REQUIRE(expect_error(keys.renew("tenant")).code == ErrorCode::kRefused);  // it is not open
}

TEST_CASE_METHOD(Fixture, "what was sealed before opens nothing any more") {
    expect(policies.install(document(approval(1))));
    expect(policies.install(document(approval(1, 2))));
    const GroupRecord former = tenant();
    const bool renewed = GENERATE(true, false);
    expect(renewed ? keys.renew("tenant") : keys.reseal({"tenant", {}, approver(), 1}));
    expect(restart(1));
    GroupRecord put_back = tenant();
    put_back.key = former.key;
    put_back.generation = former.generation;
    expect(edited(store, SealGroup{put_back}));
    expect(edited(store, InsertPolicy{{"former", "tenant", document(approval(1)), 1}}));
    REQUIRE_THAT(expect_error(restart(1)).text, Contains("another count"));
    REQUIRE_THAT(expect_error(restart(1)).text, Contains("another count"));  // and nothing moved to it
}

TEST_CASE_METHOD(Fixture, "a renewal that is cut before its count is complete after the next start") {
    expect(policies.install(document(approval(1))));
    expect(policies.install(document(approval(1, 2))));
    const GroupRecord former = tenant();
    tpm.crash = GENERATE(FakeTpm::Crash::kBeforeCount, FakeTpm::Crash::kAfterCount);
    const Error error = expect_error(keys.renew("tenant"));
    REQUIRE(error.code == ErrorCode::kUnavailable);
    REQUIRE_THAT(error.text, Contains("what was sealed before may open still"));
    tpm.crash = FakeTpm::Crash::kNone;
    expect(restart(1));
    REQUIRE(tenant().generation == 2);
    const std::uint64_t count = tpm.counters.at(former.nv_index);
    expect(restart(1));
    REQUIRE(tpm.counters.at(former.nv_index) == count);  // once
    GroupRecord put_back = tenant();
    put_back.key = former.key;
    put_back.generation = 1;
    expect(edited(store, SealGroup{put_back}));
    expect(edited(store, InsertPolicy{{"former", "tenant", document(approval(1)), 1}}));
    REQUIRE_THAT(expect_error(restart(1)).text, Contains("another count"));
}

TEST_CASE_METHOD(Fixture, "a renewal that is cut is completed when it is said again") {
    expect(policies.install(document(approval(1))));
    expect(policies.install(document(approval(1, 2))));
    const GroupRecord former = tenant();
    const std::uint64_t count = tpm.counters.at(former.nv_index);
    tpm.crash = GENERATE(FakeTpm::Crash::kBeforeCount, FakeTpm::Crash::kAfterCount);
    REQUIRE_FALSE(keys.renew("tenant"));
    if (tpm.crash == FakeTpm::Crash::kBeforeCount) REQUIRE_FALSE(keys.renew("tenant"));
    tpm.crash = FakeTpm::Crash::kNone;
    expect(keys.renew("tenant"));
    REQUIRE(tenant().generation == 2);  // not 3
    REQUIRE(tpm.counters.at(former.nv_index) == count + 1);
    REQUIRE_THAT(expect_error(keys.renew("tenant")).text, Contains("--generation 3"));
    expect(restart(1));
}

TEST_CASE_METHOD(Fixture, "what a cut attempt sealed opens nothing after the next one") {
    tpm.crash = FakeTpm::Crash::kBeforeCount;
    REQUIRE_FALSE(keys.reseal({"tenant", {}, {}, 1}));
    const GroupRecord cut = tenant();
    tpm.crash = FakeTpm::Crash::kNone;
    expect(keys.reseal({"tenant", expect(PcrSelection::parse("sha256:7")), {}, 1}));
    expect(restart(1));
    GroupRecord put_back = tenant();
    put_back.key = cut.key;
    put_back.pcrs = cut.pcrs;
    expect(edited(store, SealGroup{put_back}));
    REQUIRE_THAT(expect_error(restart(1)).text, Contains("another count"));
}

TEST_CASE_METHOD(Fixture, "a renewal completes what was cut before it, and is not taken for that") {
    expect(policies.install(document(approval(1))));
    expect(policies.install(document(approval(1, 2))));
    tpm.crash = FakeTpm::Crash::kBeforeCount;
    REQUIRE_FALSE(keys.reseal({"tenant", {}, approver(), 1}));
    const GroupRecord cut = tenant();
    tpm.crash = FakeTpm::Crash::kNone;
    expect(keys.renew("tenant"));
    REQUIRE(tenant().generation == 2);
    GroupRecord put_back = tenant();
    put_back.key = cut.key;
    expect(edited(store, SealGroup{put_back}));
    REQUIRE_THAT(expect_error(restart(1)).text, Contains("another count"));
}

TEST_CASE_METHOD(Fixture, "a cut renewal whose counter was changed as well is had in the same generation") {
    expect(policies.install(document(approval(1, 2))));
    tpm.crash = FakeTpm::Crash::kBeforeCount;
    REQUIRE_FALSE(keys.renew("tenant"));
    tpm.crash = FakeTpm::Crash::kNone;
    for (int i = 0; i < 3; ++i) tpm.increment(tenant().nv_index);
    expect(keys.renew("tenant"));
    REQUIRE(tenant().generation == 2);
    expect(restart(1));
}

TEST_CASE_METHOD(Fixture, "a counter that somebody incremented is made good while the key is there") {
    expect(policies.install(document(approval(1, 2))));
    tpm.increment(tenant().nv_index);
    expect(keys.renew("tenant"));
    expect(restart(1));
}

TEST_CASE_METHOD(Fixture, "a counter that is made anew begins above what the former one was at") {
    const std::uint32_t index = tenant().nv_index;
    const std::uint64_t count = tpm.counters.at(index);
    expect(keys.remove("tenant"));
    REQUIRE_FALSE(tpm.counters.contains(index));
    expect(keys.create({"tenant", {}, approver(), 1}));
    REQUIRE(tenant().nv_index == index);
    REQUIRE(tpm.counters.at(index) > count);
}

}  // namespace vtpm::boot_policies_test
