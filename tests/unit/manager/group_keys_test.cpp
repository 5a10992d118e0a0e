// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/group_keys.hpp"

#include <algorithm>
#include <fstream>

#include "edited.hpp"
#include "expect.hpp"
#include "fake_sealer.hpp"
#include "manager/groups/file_sealer.hpp"
#include "manager/groups/inventory.hpp"
#include "manager/store/sqlite_store.hpp"
#include "quiet_errors.hpp"
#include "temporary_directory.hpp"

namespace vtpm::group_keys_test {

namespace {

struct Fixture {
    TemporaryDirectory directory;
    FakeTpm tpm;
    SqliteStore store = expect(SqliteStore::open(directory.path()));

    [[nodiscard]] GroupKeys keys(const char *sealing = "tpm") { return {store, sealing, tpm.opener()}; }
    static Bytes default_key(const GroupKeys &keys) {
        const ByteView view = expect(keys.key("default"))->view();
        return {view.begin(), view.end()};
    }
};

KeyPolicy sealed_to(const std::string &group, const char *pcrs = "") {
    return {group, expect(PcrSelection::parse(pcrs)), {}, 1};
}

}  // namespace

TEST_CASE_METHOD(Fixture, "before the keys are unsealed there is none, and why is said") {
    REQUIRE(expect_error(keys().key("default")).code == ErrorCode::kUnavailable);
}

TEST_CASE_METHOD(Fixture, "the second start has the keys of the first") {
    GroupKeys first = keys();
    expect(first.unlock());
    GroupKeys second = keys();
    expect(second.unlock());
    REQUIRE(default_key(first) == default_key(second));
}

TEST_CASE_METHOD(Fixture, "another TPM is refused for every vTPM, and the store stays as it is") {
    GroupKeys first = keys();
    expect(first.unlock());
    tpm.identity = {'t', 'w', 'o'};
    GroupKeys second = keys();
    REQUIRE(expect_error(second.unlock()).code == ErrorCode::kRefused);
    REQUIRE_THAT(expect_error(second.key("default")).text, Contains("not the hardware TPM"));
    tpm.identity = {'o', 'n', 'e'};
    expect(second.unlock());
    REQUIRE(default_key(first) == default_key(second));
}

TEST_CASE_METHOD(Fixture, "a TPM that is away at the start is found later") {
    tpm.away = true;
    GroupKeys later = keys();
    REQUIRE(expect_error(later.unlock()).code == ErrorCode::kUnavailable);
    tpm.away = false;
    expect(later.unlock());
    expect(later.key("default"));
}

TEST_CASE_METHOD(Fixture, "a store sealed by the TPM is not opened by a file, nor the other way round") {
    expect(keys("tpm").unlock());
    REQUIRE_THAT(expect_error(keys("file").unlock()).text, Contains("sealed by 'tpm'"));
}

TEST_CASE_METHOD(Fixture, "an unknown group has no key") {
    GroupKeys some = keys();
    expect(some.unlock());
    REQUIRE(expect_error(some.key("tenant")).code == ErrorCode::kRefused);
}

TEST_CASE_METHOD(Fixture, "each group has a key of its own, also after a restart") {
    GroupKeys first = keys();
    expect(first.unlock());
    expect(first.create(sealed_to("tenant", "sha256:0,7")));
    REQUIRE_FALSE(std::ranges::equal(expect(first.key("tenant"))->view(), expect(first.key("default"))->view()));
    GroupKeys second = keys();
    expect(second.unlock());
    REQUIRE(std::ranges::equal(expect(first.key("tenant"))->view(), expect(second.key("tenant"))->view()));
    const auto groups = expect(second.list());
    REQUIRE(groups.size() == 2);
    REQUIRE(groups[1].name == "tenant");
    REQUIRE(groups[1].pcrs == "sha256:0,7");
}

TEST_CASE_METHOD(Fixture, "a group that does not open is refused, and no other") {
    GroupKeys first = keys();
    expect(first.unlock());
    expect(first.create(sealed_to("tenant", "sha256:0,7")));
    tpm.refused = "sha256:0,7";
    GroupKeys second = keys();
    expect(second.unlock());
    expect(second.key("default"));
    const Error error = expect_error(second.key("tenant"));
    REQUIRE(error.code == ErrorCode::kRefused);
    REQUIRE_THAT(error.text, Contains("group 'tenant'") && Contains("other PCRs"));
    REQUIRE_THAT(expect(second.list())[1].refusal, Contains("other PCRs"));
    REQUIRE_FALSE(expect(second.list())[1].waits);
    REQUIRE_FALSE(second.waits());
    REQUIRE(expect_error(second.open("tenant")).code == ErrorCode::kRefused);
    tpm.refused.clear();
    expect(second.open("tenant"));
    expect(second.key("tenant"));
    REQUIRE(expect_error(second.open("nobody")).code == ErrorCode::kNotFound);
    const auto refusals = std::ranges::count(expect(store.audit_records()), "group-refused", &AuditRecord::event);
    REQUIRE(refusals == 1);
}

TEST_CASE_METHOD(Fixture, "a group that waits for its TPM is not told as refused") {
    const QuietErrors quiet;
    GroupKeys first = keys();
    REQUIRE(expect(first.list()).empty());
    expect(first.unlock());
    REQUIRE_FALSE(expect(first.list())[0].waits);
    tpm.away = true;
    GroupKeys second = keys();
    REQUIRE(expect(second.list())[0].waits);  // not tried yet
    REQUIRE_FALSE(second.unlock());
    REQUIRE(expect(second.list())[0].waits);
    REQUIRE_FALSE(expect(second.list())[0].refusal.empty());
    tpm.away = false;
    tpm.identity = {'t', 'w', 'o'};
    REQUIRE_FALSE(second.unlock());
    REQUIRE_FALSE(expect(second.list())[0].waits);
}

TEST_CASE_METHOD(Fixture, "a group that is not complete can be created again, also after it was tried again") {
    const QuietErrors quiet;
    TemporaryDirectory elsewhere;
    expect(SqliteStore::open(elsewhere.path()));
    // A group that has a vTPM is not deleted.
    expect(expect(Database::open(elsewhere / "store.db"))
               .script("INSERT INTO vtpms (uuid, tpm_version, pcr_banks, algorithms, group_name, wrapped_key, created) "
                       "VALUES ('01234567-89ab-cdef-0123-456789abcdef', '2.0', 'sha256', '', 'tenant', x'01', 1)"));
    SqliteStore kept = expect(SqliteStore::open(elsewhere.path()));
    GroupKeys some(kept, "tpm", tpm.opener());
    expect(some.unlock());
    tpm.crash = FakeTpm::Crash::kBeforeEpoch;
    REQUIRE_FALSE(some.create(sealed_to("tenant")));
    REQUIRE_THAT(expect(some.list())[1].refusal, Contains("not complete") && Contains("create it again"));
    expect(some.unlock());
    REQUIRE_THAT(expect(some.list())[1].refusal, Contains("not complete") && Contains("create it again"));
    expect(edited(kept, DeleteVtpmsOf{"tenant"}));
    tpm.crash = FakeTpm::Crash::kNone;
    expect(some.create(sealed_to("tenant")));
    expect(some.key("tenant"));
    REQUIRE(expect_error(some.create(sealed_to("tenant"))).code == ErrorCode::kInUse);
}

TEST_CASE_METHOD(Fixture, "where no group opens, that is the answer") {
    GroupKeys first(store, "tpm", tpm.opener(), expect(PcrSelection::parse("sha256:7")));
    expect(first.unlock());
    tpm.refused = "sha256:7";
    GroupKeys second = keys();
    REQUIRE(expect_error(second.unlock()).code == ErrorCode::kRefused);
    expect(second.create(sealed_to("tenant")));  // a new group can be a beginning
    expect(second.key("tenant"));
    REQUIRE(expect_error(second.key("default")).code == ErrorCode::kRefused);
    REQUIRE(expect_error(second.create(sealed_to("default"))).code == ErrorCode::kInUse);
    tpm.identity = {'t', 'w', 'o'};
    GroupKeys elsewhere = keys();
    REQUIRE_FALSE(elsewhere.unlock());
    REQUIRE(expect_error(elsewhere.create(sealed_to("third"))).code == ErrorCode::kRefused);
}

TEST_CASE_METHOD(Fixture, "groups have names, once") {
    GroupKeys some = keys();
    expect(some.unlock());
    for (const char *name : {"", "-a", ".a", "A", "a b", "a/b", "\xc3\xa4"})
        REQUIRE(expect_error(some.create(sealed_to(name))).code == ErrorCode::kInvalid);
    REQUIRE(expect_error(some.create(sealed_to(std::string(65, 'a')))).code == ErrorCode::kInvalid);
    REQUIRE(expect_error(some.create(sealed_to("default"))).code == ErrorCode::kInUse);
    expect(some.create(sealed_to("a.b-1")));
    REQUIRE(expect_error(some.create(sealed_to("a.b-1"))).code == ErrorCode::kInUse);
}

TEST_CASE_METHOD(Fixture, "a group goes when it has no vTPM, the default group never") {
    GroupKeys some = keys();
    expect(some.unlock());
    expect(some.create(sealed_to("tenant")));
    VtpmRecord vtpm;
    vtpm.uuid = Uuid::random();
    vtpm.group = "tenant";
    vtpm.wrapped_key = {1};
    expect(Inventory(store, some).insert(vtpm));
    REQUIRE(expect_error(some.remove("tenant")).code == ErrorCode::kInUse);
    expect(some.key("tenant"));
    expect(Inventory(store, some).remove(vtpm));
    expect(some.remove("tenant"));
    REQUIRE(expect_error(some.key("tenant")).code == ErrorCode::kRefused);
    REQUIRE(expect_error(some.remove("tenant")).code == ErrorCode::kNotFound);
    REQUIRE(expect_error(some.remove("default")).code == ErrorCode::kRefused);
}

TEST_CASE_METHOD(Fixture, "a key file seals, and another one is refused") {
    const std::string path = directory / "sealing.key";
    const OpenSealer opener = [&](ByteView pinned) { return open_file_sealer(path, pinned); };
    GroupKeys first(store, "file", opener);
    expect(first.unlock());
    GroupKeys second(store, "file", opener);
    expect(second.unlock());
    REQUIRE(default_key(first) == default_key(second));

    std::filesystem::rename(path, directory / "away");
    GroupKeys third(store, "file", opener);
    REQUIRE(expect_error(third.unlock()).code == ErrorCode::kRefused);
    REQUIRE_FALSE(std::filesystem::exists(path));
    std::ofstream(path) << std::string(kKeySize, 'x');
    REQUIRE_THAT(expect_error(third.unlock()).text, Contains("not the key that sealed"));
    std::filesystem::resize_file(path, 5);
    REQUIRE_THAT(expect_error(third.unlock()).text, Contains("truncated"));
    REQUIRE_FALSE(third.waits());
    expect(second.unlock());  // what is open stays so
    expect(second.key("default"));
}

}  // namespace vtpm::group_keys_test
