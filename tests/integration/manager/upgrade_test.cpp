// SPDX-License-Identifier: Apache-2.0
// Stores that former versions wrote (store-8/ to store-13/), and the TPMs that sealed them.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "manager/crypto/encoding.hpp"
#include "manager/hardware_tpm/hardware_tpm.hpp"
#include "manager/store/database.hpp"
#include "manager_process.hpp"
#include "swtpm.hpp"

namespace vtpm::upgrade_test {
using nlohmann::json;

namespace {

struct Former {
    const char *directory;
    const char *store_id;
    const char *default_key;
    const char *tenant_key;
    const char *launch = "off";                   // of the tenant's vTPM
    std::map<std::string, std::string> states{};  // of vTPMs that ran
};
const Former kSchema8{"store-8", "09d1e19b-cf9b-4267-bb12-d6bad64bfedb",
                      "GRDA-TCN0-VMVK-F8J6-ZQTV-9Y21-TX71-SQCQ-TDGX-RJX7-WG2M-NPW4-N64D-PFFZ",
                      "REFM-8EQ0-Y7CS-H08Y-V2XT-BGR8-KPVH-8JK8-M0HR-0D33-Q4D6-738C-HPY6-QVES"};
const Former kSchema9{"store-9", "9e1b54f9-bff0-4e29-a347-be82a43d09a3",
                      "TM27-5RMG-A0S3-2SXG-HR76-03RE-NY9X-ZA2N-6JHA-7KCK-K6X2-XDQR-0KBZ-Y2G1",
                      "FHKD-W7XV-89A6-SWSW-DZ2E-R2QG-TTFE-V5AB-37AG-W1D3-QKFH-SVCZ-MGK8-0PHG"};
const Former kSchema10{"store-10", "486fc0ec-4016-4804-9455-76f7feb8751e",
                       "WCDY-3YST-XAZC-B3WF-4VEN-17A5-XKQS-C4FD-S31A-2P10-94FZ-MM15-KZFD-4D48",
                       "3XX8-64B1-10K8-QNJ3-D5P9-CD3X-FV71-1XC7-ZKV2-PK4P-H221-8NT7-JKHC-MEB5"};
const Former kSchema11{"store-11", "a85b1f9c-08be-4c79-96b0-8c7b85f4c8c0",
                       "YGHP-E12E-733F-CWBT-G9J6-MESD-E228-2R0W-F6BS-26H9-BVFS-MDXN-6M39-JB3W",
                       "BHYK-XCXR-VWVW-T5W8-YTZA-CR2J-MYPR-B1PT-FKRT-PQHZ-N7R3-1XPN-M57Y-N5BM", "require"};
const Former kSchema12{"store-12",
                       "786e0e18-1390-49c7-a705-a813599587eb",
                       "2BFP-F4P0-CFYF-RNBQ-YJE0-RAK3-0TR4-1SQW-EA66-ZY2Y-KFM2-ZTFP-VR2Q-JV57",
                       "4G04-Y2NN-C6S8-XQ3N-A3TK-4BJ7-N23V-M2ME-1DBH-KEE1-7H39-X80S-8TS9-34TC",
                       "measure",
                       {{"45d506ff-3dc1-426c-8a3b-16401fc24142", "permanent state of schema 12"},
                        {"99e1296e-8677-4e92-a1ec-c6e156316c27", "another permanent state of schema 12"}}};
const Former kSchema13{"store-13",
                       "c7ceda21-501e-4327-9613-e90b2b2768d3",
                       "29TK-C176-2ZGQ-G248-WQJS-X22Q-6Z64-H01E-MA7M-DZCV-TAGV-5XCM-NRPR-SD27",
                       "DVVS-YPRT-ADA3-TQ31-YSFW-GZ2P-TH4S-0QXC-WENY-3APA-8XS8-651P-T4YG-8YC0",
                       "measure",
                       {{"7f0929b3-2228-4017-9239-8a563782eb79", "permanent state of schema 13"},
                        {"096f7b7f-efef-478f-9172-6ba403a96cfc", "another permanent state of schema 13"}}};

std::string fixture(const Former &former, const char *name) {
    std::ifstream file(fmt::format("{}/{}/{}", VTPM_FIXTURES, former.directory, name));
    REQUIRE(file);
    return {std::istreambuf_iterator<char>(file), {}};
}

// Lines of hexadecimal digits, and comments.
Bytes tpm_state(const Former &former) {
    std::istringstream lines(fixture(former, "tpm.hex"));
    std::string digits;
    for (std::string line; std::getline(lines, line);)
        if (!line.starts_with('#')) digits += line;
    return from_hex(digits).value();
}

struct Fixture {
    const Former former;
    TemporaryDirectory directory;
    std::string tpm_directory = directory / "tpm";
    std::optional<Swtpm> swtpm;
    PrivateBus bus{directory / "bus"};
    ManagerPlace place{directory, {}, bus.address()};
    std::optional<ManagerProcess> manager;

    explicit Fixture(const Former &store = kSchema8) : former(store) {
        std::filesystem::create_directory(tpm_directory);
        std::filesystem::create_directory(place.state_directory());
        const Bytes state = tpm_state(former);
        std::ofstream(tpm_directory + "/tpm2-00.permall", std::ios::binary) << std::string(state.begin(), state.end());
        swtpm.emplace(tpm_directory);
        place.tcti = swtpm->tcti();
        std::ofstream(place.state_directory() + "/store.id") << former.store_id;
        change_store(fixture(former, "store.sql"));
    }
    [[nodiscard]] Database database() const { return expect(Database::open(place.state_directory() + "/store.db")); }
    void change_store(const std::string &sql) const { expect(database().script(sql.c_str())); }
    void restart() {
        if (manager) manager->end(SIGTERM);
        manager.emplace(place);
    }
    void stop() {
        manager->end(SIGTERM);
        manager.reset();
    }
    [[nodiscard]] std::string lost() const {
        return json::parse(xen_vtpm({"--json", "status"}).out).at("manager").at("lost_group");
    }
    [[nodiscard]] Output xen_vtpm(std::vector<std::string> arguments, std::string_view in = {}) const {
        const UniqueFd file = file_with(in);
        return cli(bus.address(), std::move(arguments), file.get());
    }
    void has_states() const {
        BackendEnd backend(place.socket());
        for (const auto &[uuid, state] : former.states) {
            EngineEnd engine = backend.open(Uuid::parse(uuid).value());
            engine.load();
            const auto loaded = engine.receive<LoadedState>();
            REQUIRE(loaded.code == ErrorCode::kNone);
            REQUIRE(std::ranges::equal(loaded.state, bytes_of(state)));
        }
    }
    [[nodiscard]] std::string refusal(const char *group) const {
        return json::parse(xen_vtpm({"--json", "group", "show", group}).out).at("reason");
    }
};

}  // namespace

TEST_CASE("a store of a former schema opens, and its groups' manifests remember the rest from then on") {
    Fixture host(GENERATE(kSchema8, kSchema9, kSchema10, kSchema11, kSchema12, kSchema13));
    CAPTURE(host.former.directory);
    for (int i = 0; i < 2; ++i) {
        host.restart();
        REQUIRE(host.refusal("default").empty());
        REQUIRE(host.refusal("tenant").empty());
        REQUIRE(json::parse(host.xen_vtpm({"--json", "list"}).out).size() == 2);
        REQUIRE(host.xen_vtpm({"group", "check-recovery", "default"}, host.former.default_key).status == 0);
        REQUIRE(host.xen_vtpm({"audit", "verify"}).status == 0);
        REQUIRE(host.lost().empty());
        host.has_states();
        // Another program may have to know while this one runs.
        std::ifstream header(host.place.state_directory() + "/store.db", std::ios::binary);
        REQUIRE(header.seekg(63).get() == 14);
    }
    REQUIRE(host.xen_vtpm({"group", "rekey", "tenant"}).status == 0);
    host.has_states();
    host.restart();
    host.has_states();
    REQUIRE(host.refusal("tenant").empty());
    for (const json &vtpm : json::parse(host.xen_vtpm({"--json", "list"}).out))
        if (vtpm.at("group") == "tenant") REQUIRE(vtpm.at("launch") == host.former.launch);
    host.stop();
    REQUIRE(expect(host.database().integer("PRAGMA user_version")) == 14);
    host.change_store("UPDATE groups SET pcrs = '' WHERE name = 'default'");
    host.restart();
    const Output checked = host.xen_vtpm({"group", "check-recovery", "default"}, host.former.default_key);
    REQUIRE_THAT(checked.out, Contains("PCRs sha256:7") && Contains("somebody changed the store"));
}

TEST_CASE("a group that is removed from a store of a former schema is missed once all groups were open together") {
    Fixture host(GENERATE(kSchema8, kSchema9, kSchema10, kSchema11, kSchema12, kSchema13));
    CAPTURE(host.former.directory);
    host.restart();
    REQUIRE(host.lost().empty());
    host.stop();
    host.change_store("DELETE FROM vtpms WHERE group_name = 'tenant'; DELETE FROM groups WHERE name = 'tenant'");
    expect(expect(HardwareTpm::open(host.place.tcti, {})).nv_remove(0x0180a701));
    const Uuid unknown = Uuid::random();
    {
        host.restart();
        REQUIRE_THAT(host.lost(), Contains("group 'tenant'") && Contains("xen-vtpm group delete --with-vtpms tenant"));
        REQUIRE_THAT(host.xen_vtpm({"status"}).out, Contains("the groups do not fit together"));
        const auto refused = BackendEnd(host.place.socket()).ask<PrepareVtpm>(unknown);
        REQUIRE(refused.code == ErrorCode::kRefused);
        REQUIRE_THAT(refused.text, Contains("group 'tenant'"));
    }
    REQUIRE(host.xen_vtpm({"group", "delete", "--yes", "--with-vtpms", "nobody"}).status == 3);
    REQUIRE(host.xen_vtpm({"group", "delete", "--yes", "--with-vtpms", "tenant"}).status == 0);
    host.restart();
    REQUIRE(host.lost().empty());
    REQUIRE(BackendEnd(host.place.socket()).ask<PrepareVtpm>(unknown).code == ErrorCode::kNone);
}

TEST_CASE_METHOD(Fixture, "of a group of schema 8 that does not open the store alone says what it was sealed to") {
    if (GENERATE(false, true)) {
        const Swtpm other(directory / "other");
        place.tcti = other.tcti();
        restart();
        REQUIRE_THAT(refusal("tenant"), Contains("not the hardware TPM"));
        const Output vouched = xen_vtpm({"group", "recover", "--new-tpm", "--yes", "tenant"}, former.tenant_key);
        REQUIRE(vouched.status == 5);
        REQUIRE_THAT(vouched.err, Contains("nobody vouches for that") && Contains("--tpm-only"));
        REQUIRE(xen_vtpm({"group", "recover", "--new-tpm", "--tpm-only", "tenant"}, former.tenant_key).status == 0);
        manager->end(SIGTERM);
        manager.reset();
        return;
    }
    change_store("UPDATE groups SET pcrs = 'sha256:4' WHERE name = 'default'");
    restart();
    REQUIRE_FALSE(refusal("default").empty());
    REQUIRE(xen_vtpm({"group", "recover", "--yes", "default"}, former.default_key).status == 5);
    REQUIRE(xen_vtpm({"group", "recover", "--pcrs", "sha256:7", "default"}, former.default_key).status == 0);
    restart();
    REQUIRE(refusal("default").empty());
}

TEST_CASE_METHOD(Fixture, "a store of schema 8 that is not the last one is refused as ever") {
    restart();
    manager->end(SIGTERM);
    manager.reset();
    std::filesystem::remove_all(place.state_directory());
    std::filesystem::create_directory(place.state_directory());
    std::ofstream(place.state_directory() + "/store.id") << former.store_id;
    change_store(fixture(former, "store.sql"));
    restart();
    REQUIRE_THAT(refusal("tenant"), Contains("accept-rollback"));
    REQUIRE(xen_vtpm({"group", "accept-rollback", "tenant"}).status == 0);
    REQUIRE(refusal("tenant").empty());
}

}  // namespace vtpm::upgrade_test
