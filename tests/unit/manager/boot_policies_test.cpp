// SPDX-License-Identifier: Apache-2.0
#include "manager/keys/boot_policies.hpp"

#include <algorithm>
#include <optional>

#include "expect.hpp"
#include "fake_sealer.hpp"
#include "openssl_keys.hpp"
#include "temporary_directory.hpp"

using namespace vtpm;
using Catch::Matchers::Contains;

namespace {

ApproverKey approver() { return expect(ApproverKey::from_pem(public_pem(p256()))); }

struct Fixture {
    TemporaryDirectory directory;
    FakeTpm tpm;
    Store store = expect(Store::open(directory.path()));
    std::optional<GroupKeys> started{std::in_place, store, "tpm", tpm.opener()};
    GroupKeys &keys = *started;
    BootPolicies policies{store, keys};

    Fixture() {
        expect(keys.unlock());
        expect(keys.create({"tenant", {}, approver(), 1}));
    }

    // Of a boot in which every byte of every PCR is `boot`.
    static BootApproval approval(std::uint8_t boot) {
        return {"tenant", expect(PcrSelection::parse("sha256:4,7")), {{4, Bytes(32, boot)}, {7, Bytes(32, boot)}}};
    }
    static std::string document(const BootApproval &approval, EVP_PKEY *key = p256()) {
        return expect(BootPolicy::sign(view(private_pem(key)), approval)).to_json();
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
    wrong.generation = 2;
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
    expect(store.delete_policy(id));
    expect(store.insert_policy({expired.id(), "tenant", expired.to_json(), 1}));
    REQUIRE_THAT(expect_error(restart(1)).text, Contains("expired"));
    REQUIRE_THAT(expect(policies.list()).at(0).problem, Contains("expired"));
}

TEST_CASE_METHOD(Fixture, "a damaged policy in the store is passed over") {
    expect(policies.install(document(approval(1))));
    expect(store.insert_policy({"damaged", "tenant", "{", 1}));
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
    expect(store.update_group(record));
    REQUIRE_THAT(expect_error(restart(1)).text, Contains("approver's key in the store is damaged"));
    expect(keys.key("default"));
}
