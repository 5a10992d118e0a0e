// SPDX-License-Identifier: Apache-2.0
// Whether a group that is sealed anew leaves anything behind that opens, on a real software TPM; by the manager's parts
// without its process, so that it can be cut where a test wants it.
#include <algorithm>
#include <optional>

#include "manager/groups/boot_policies.hpp"
#include "manager/groups/tpm_sealer.hpp"
#include "manager/hardware_tpm/hardware_tpm.hpp"
#include "manager/hardware_tpm/tpm_error.hpp"
#include "manager/store/sqlite_store.hpp"
#include "swtpm.hpp"
#include "tests/unit/manager/edited.hpp"
#include "tests/unit/manager/expect.hpp"
#include "tests/unit/manager/openssl_keys.hpp"
#include "tests/unit/manager/temporary_directory.hpp"

namespace vtpm::renewal_test {

namespace {

ApproverKey approver() { return expect(ApproverKey::from_pem(public_pem(p256()))); }

struct Fixture {
    TemporaryDirectory directory;
    Swtpm swtpm{directory / "tpm"};
    PcrSelection pcrs = expect(PcrSelection::parse("sha256:4,7"));
    std::optional<SqliteStore> store;
    std::optional<GroupKeys> keys;
    std::optional<BootPolicies> policies;

    Fixture() {
        std::filesystem::create_directory(directory / "state");
        start();
        expect(keys->create({"tenant", {}, approver(), 1}));
        expect(policies->install(document(1)));
    }
    void stop() {
        policies.reset();
        keys.reset();
        store.reset();
    }
    // A manager that begins anew, without the former one having ended.
    void start() {
        stop();
        store.emplace(expect(SqliteStore::open(directory / "state")));
        keys.emplace(*store, "tpm", [this](ByteView pinned) { return open_tpm_sealer(swtpm.tcti(), pinned, {}); });
        policies.emplace(*store, *keys);
        expect(keys->unlock());
    }
    // After a restart.
    std::string refusal() {
        start();
        const auto key = keys->key("tenant");
        return key ? std::string() : key.error().text;
    }
    [[nodiscard]] HardwareTpm tpm() const { return expect(HardwareTpm::open(swtpm.tcti(), {})); }
    // For the present boot.
    [[nodiscard]] BootPolicy approval(std::uint32_t generation) const {
        return expect(BootPolicy::sign(view(private_pem(p256())),
                                       {"tenant", pcrs, expect(tpm().read(pcrs)), std::nullopt, generation}));
    }
    [[nodiscard]] std::string document(std::uint32_t generation) const { return approval(generation).to_json(); }
    [[nodiscard]] GroupRecord tenant() const { return expect(keys->record("tenant")); }
    [[nodiscard]] Count count() const {
        const std::uint32_t index = tenant().nv_index + 0x100;
        return {index, expect(tpm().counter(index))};
    }
    // As root of the approved boot does it, with copies of the object and of the policy.
    [[nodiscard]] Result<SecretBytes> attack(const GroupRecord &copy, const Count &at) const {
        return tpm().unseal(copy.key, approver().for_tpm(policy_ref("tenant", copy.generation)),
                            *approval(copy.generation).for_tpm(approver()), at);
    }
    void put_back(const GroupRecord &copy) {
        expect(edited(*store, SealGroup{copy}));
        if (copy.generation != 1) return;
        const BootPolicy former = approval(1);
        expect(edited(*store, InsertPolicy{{former.id(), "tenant", former.to_json(), 1}}));
    }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "a renewal makes the copies of what was sealed and approved before worthless") {
    const GroupRecord copy = tenant();
    const Count before = count();
    expect(attack(copy, before));
    REQUIRE_THAT(expect_error(keys->renew("tenant")).text, Contains("--generation 2"));
    expect(attack(copy, before));
    expect(policies->install(document(2)));
    expect(keys->renew("tenant"));
    REQUIRE(count().value == before.value + 1);

    REQUIRE(expect_error(attack(copy, before)).code == ErrorCode::kRefused);
    REQUIRE(expect_error(attack(copy, count())).code == ErrorCode::kRefused);
    REQUIRE_THAT(expect_error(policies->install(document(1))).text, Contains("--generation 2"));
    REQUIRE(refusal().empty());
    REQUIRE(expect(keys->list()).at(1).generation == 2);

    put_back(copy);
    REQUIRE_THAT(refusal(), Contains("older copy of the store") && Contains("recovery key"));
    expect(tpm().nv_remove(before.index));
    REQUIRE_THAT(refusal(), Contains("has lost NV counter 0x180a801"));
    expect(tpm().ensure_counter(before.index));
    REQUIRE_THAT(refusal(), Contains("older copy of the store"));
    REQUIRE(expect_error(attack(copy, before)).code == ErrorCode::kRefused);
    expect(keys->key("default"));
}

TEST_CASE_METHOD(Fixture, "a renewal that is cut between the store and the counter is complete after the next start") {
    const GroupRecord copy = tenant();
    const Count before = count();
    expect(policies->install(document(2)));
    KeyPolicy policy = expect(keys->policy("tenant"));
    GroupRecord cut = copy;
    cut.generation = policy.generation = 2;
    cut.key = expect(expect(keys->sealer())->seal(*expect(keys->key("tenant")), policy, Sealer::Opens::kFromAdvance));
    expect(edited(*store, SealGroup{cut}));
    Manifest::Draft draft(*expect(keys->manifest("tenant")));
    Terms terms = expect(keys->manifest("tenant"))->terms();
    terms.generation = 2;
    draft.put(terms);
    expect(edited(*store, ManifestWrite{"tenant", expect(draft.seal())}));
    REQUIRE(count().value == before.value);

    for (int i = 0; i < 2; ++i) {
        REQUIRE(refusal().empty());
        REQUIRE(count().value == before.value + 1);
        REQUIRE(expect_error(attack(copy, before)).code == ErrorCode::kRefused);
    }
}

TEST_CASE_METHOD(Fixture, "who writes into the store moves no counter") {
    GroupRecord forged = tenant();
    const Count before = count();
    // An object that says of itself that it is the next one: this TPM did not make it.
    const auto policy = expect(keys->policy("tenant"));
    const SealedObject next =
        expect(expect(keys->sealer())->seal(*expect(keys->key("tenant")), policy, Sealer::Opens::kFromAdvance));
    forged.key.public_area = next.public_area;
    expect(edited(*store, SealGroup{forged}));
    REQUIRE_FALSE(refusal().empty());
    REQUIRE(count().value == before.value);
}

TEST_CASE_METHOD(Fixture, "what is sealed to something else does not open by what it was sealed to before") {
    const GroupRecord default_group = expect(keys->record("default"));
    const Count before{default_group.nv_index + 0x100, expect(tpm().counter(default_group.nv_index + 0x100))};
    expect(tpm().unseal(default_group.key, PcrSelection(), before));
    expect(keys->reseal({"default", pcrs, {}, 1}));
    REQUIRE(expect_error(tpm().unseal(default_group.key, PcrSelection(), before)).code == ErrorCode::kRefused);
    start();
    expect(keys->key("default"));
    expect(keys->key("tenant"));
}

TEST_CASE_METHOD(Fixture, "a recovery key opens a group whose counter is gone, and makes another one") {
    const GroupRecord copy = tenant();
    const Count before = count();
    const std::string recovery_key = expect(keys->export_recovery_key("tenant", GroupKeys::Replace::kNo));
    expect(tpm().nv_remove(before.index));
    REQUIRE_THAT(refusal(), Contains("has lost NV counter"));
    expect(keys->recover(recovery_key, {{"tenant", {}, approver(), 1}}));
    REQUIRE(refusal().empty());
    REQUIRE(count().value > before.value);
    REQUIRE_FALSE(attack(copy, before));
}

TEST_CASE_METHOD(Fixture, "a group's counter goes with it, and with that whatever was sealed") {
    const GroupRecord copy = tenant();
    const Count before = count();
    expect(keys->remove("tenant"));
    REQUIRE_FALSE(attack(copy, before));
    expect(keys->create({"tenant", {}, approver(), 1}));
    REQUIRE(tenant().nv_index == copy.nv_index);
    REQUIRE_FALSE(attack(copy, before));
    expect(attack(tenant(), count()));
}

TEST_CASE_METHOD(Fixture, "a TPM without room for another group says so, and nothing of that is left") {
    const auto indices = [this] { return expect(tpm().nv_indices(0x0180a700, 0x0180a8ff)); };
    const auto before = indices();
    std::uint32_t filler = 0x01800000;
    for (const std::size_t size : {1000U, 1U})
        while (tpm().nv_write(filler, {}, Bytes(size))) ++filler;
    int refusals = 0;
    for (auto created = keys->create({"another", {}, {}, 1}); !created; ++refusals) {
        REQUIRE_THAT(created.error().text, Contains("no room for another NV index"));
        REQUIRE(indices() == before);
        expect(tpm().nv_remove(--filler));
        created = keys->create({"another", {}, {}, 1});
    }
    REQUIRE(refusals > 0);
    start();
    for (const GroupInfo &group : expect(keys->list())) REQUIRE(group.refusal.empty());
}

}  // namespace vtpm::renewal_test
