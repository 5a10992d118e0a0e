// SPDX-License-Identifier: Apache-2.0
// A store that a former version wrote (store-8/), and the TPM that sealed it.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "manager/policy/encoding.hpp"
#include "manager/store/database.hpp"
#include "manager_process.hpp"
#include "swtpm.hpp"

namespace vtpm::upgrade_test {
using nlohmann::json;

namespace {

constexpr const char *kDefaultKey = "GRDA-TCN0-VMVK-F8J6-ZQTV-9Y21-TX71-SQCQ-TDGX-RJX7-WG2M-NPW4-N64D-PFFZ";
constexpr const char *kTenantKey = "REFM-8EQ0-Y7CS-H08Y-V2XT-BGR8-KPVH-8JK8-M0HR-0D33-Q4D6-738C-HPY6-QVES";
constexpr const char *kStoreId = "09d1e19b-cf9b-4267-bb12-d6bad64bfedb";

std::string fixture(const char *name) {
    std::ifstream file(std::string(VTPM_FIXTURES "/store-8/") + name);
    REQUIRE(file);
    return {std::istreambuf_iterator<char>(file), {}};
}

// Lines of hexadecimal digits, and comments.
Bytes tpm_state() {
    std::istringstream lines(fixture("tpm.hex"));
    std::string digits;
    for (std::string line; std::getline(lines, line);)
        if (!line.starts_with('#')) digits += line;
    return from_hex(digits).value();
}

struct Fixture {
    TemporaryDirectory directory;
    std::string tpm_directory = directory / "tpm";
    std::optional<Swtpm> swtpm;
    PrivateBus bus{directory / "bus"};
    ManagerPlace place{directory, {}, bus.address()};
    std::optional<ManagerProcess> manager;

    Fixture() {
        std::filesystem::create_directory(tpm_directory);
        std::filesystem::create_directory(place.state_directory());
        const Bytes state = tpm_state();
        std::ofstream(tpm_directory + "/tpm2-00.permall", std::ios::binary) << std::string(state.begin(), state.end());
        swtpm.emplace(tpm_directory);
        place.tcti = swtpm->tcti();
        std::ofstream(place.state_directory() + "/store.id") << kStoreId;
        change_store(fixture("store.sql"));
    }
    [[nodiscard]] Database database() const { return expect(Database::open(place.state_directory() + "/store.db")); }
    void change_store(const std::string &sql) const { expect(database().script(sql.c_str())); }
    void restart() {
        if (manager) manager->end(SIGTERM);
        manager.emplace(place);
    }
    [[nodiscard]] Output xen_vtpm(std::vector<std::string> arguments, std::string_view in = {}) const {
        const UniqueFd file = file_with(in);
        return cli(bus.address(), std::move(arguments), file.get());
    }
    [[nodiscard]] std::string refusal(const char *group) const {
        return json::parse(xen_vtpm({"--json", "group", "show", group}).out).at("reason");
    }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "a store of schema 8 opens, and its groups' manifests remember the rest from then on") {
    for (int i = 0; i < 2; ++i) {
        restart();
        REQUIRE(refusal("default").empty());
        REQUIRE(refusal("tenant").empty());
        REQUIRE(json::parse(xen_vtpm({"--json", "list"}).out).size() == 2);
        REQUIRE(xen_vtpm({"group", "check-recovery", "default"}, kDefaultKey).status == 0);
        REQUIRE(xen_vtpm({"audit", "--verify"}).status == 0);
    }
    REQUIRE(xen_vtpm({"group", "rekey", "tenant"}).status == 0);
    restart();
    REQUIRE(refusal("tenant").empty());
    manager->end(SIGTERM);
    manager.reset();
    REQUIRE(expect(database().integer("PRAGMA user_version")) == 9);
    change_store("UPDATE groups SET pcrs = '' WHERE name = 'default'");
    restart();
    const Output checked = xen_vtpm({"group", "check-recovery", "default"}, kDefaultKey);
    REQUIRE_THAT(checked.out, Contains("PCRs sha256:7") && Contains("somebody changed the store"));
}

TEST_CASE_METHOD(Fixture, "of a group of schema 8 that does not open the store alone says what it was sealed to") {
    if (GENERATE(false, true)) {
        const Swtpm other(directory / "other");
        place.tcti = other.tcti();
        restart();
        REQUIRE_THAT(refusal("tenant"), Contains("not the hardware TPM"));
        const Output vouched = xen_vtpm({"group", "recover", "--new-tpm", "--yes", "tenant"}, kTenantKey);
        REQUIRE(vouched.status == 5);
        REQUIRE_THAT(vouched.err, Contains("nobody vouches for that") && Contains("--tpm-only"));
        REQUIRE(xen_vtpm({"group", "recover", "--new-tpm", "--tpm-only", "tenant"}, kTenantKey).status == 0);
        manager->end(SIGTERM);
        manager.reset();
        return;
    }
    change_store("UPDATE groups SET pcrs = 'sha256:4' WHERE name = 'default'");
    restart();
    REQUIRE_FALSE(refusal("default").empty());
    REQUIRE(xen_vtpm({"group", "recover", "--yes", "default"}, kDefaultKey).status == 5);
    REQUIRE(xen_vtpm({"group", "recover", "--pcrs", "sha256:7", "default"}, kDefaultKey).status == 0);
    restart();
    REQUIRE(refusal("default").empty());
}

TEST_CASE_METHOD(Fixture, "a store of schema 8 that is not the last one is refused as ever") {
    restart();
    manager->end(SIGTERM);
    manager.reset();
    std::filesystem::remove_all(place.state_directory());
    std::filesystem::create_directory(place.state_directory());
    std::ofstream(place.state_directory() + "/store.id") << kStoreId;
    change_store(fixture("store.sql"));
    restart();
    REQUIRE_THAT(refusal("tenant"), Contains("--accept-rollback"));
    REQUIRE(xen_vtpm({"recover", "--accept-rollback", "tenant"}).status == 0);
    REQUIRE(refusal("tenant").empty());
}

}  // namespace vtpm::upgrade_test
