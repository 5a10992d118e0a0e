// SPDX-License-Identifier: Apache-2.0
#include <csignal>
#include <nlohmann/json.hpp>

#include "manager_process.hpp"
#include "swtpm.hpp"

using namespace vtpm;
using Catch::Matchers::Contains;
using nlohmann::json;

namespace {

constexpr const char *kUuid = "01234567-89ab-cdef-0123-456789abcdef";

struct Fixture {
    TemporaryDirectory directory;
    Swtpm swtpm{directory / "tpm"};
    PrivateBus bus{directory / "bus"};
    ManagerPlace place{directory, swtpm.tcti(), bus.address(), {}};
    ManagerProcess manager{place};

    [[nodiscard]] Output xen_vtpm(std::vector<std::string> arguments) const {
        return cli(bus.address(), std::move(arguments));
    }
    [[nodiscard]] json answer(std::vector<std::string> arguments) const {
        arguments.emplace_back("--json");
        const Output output = xen_vtpm(std::move(arguments));
        CAPTURE(output.err);
        REQUIRE(output.status == 0);
        return json::parse(output.out);
    }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "the life of a vTPM on the command line") {
    REQUIRE(answer({"list"}) == json::array());
    REQUIRE(xen_vtpm({"create", "--tpm", "1.2", kUuid}).out == std::string(kUuid) + "\n");
    REQUIRE(answer({"list"}).at(0).at("uuid") == kUuid);
    const json shown = answer({"show", kUuid});
    REQUIRE(shown.at("tpm") == "1.2");
    REQUIRE(shown.at("group") == "default");
    REQUIRE(shown.at("in_use") == false);
    REQUIRE(shown.at("sequence") == 0);
    REQUIRE(shown.at("devices") == json::array());
    REQUIRE(answer({"destroy", kUuid}).at("destroyed") == true);
    REQUIRE(xen_vtpm({"show", kUuid}).status == 3);
}

TEST_CASE_METHOD(Fixture, "a created vTPM without a UUID gets a random one and the default version") {
    const auto first = answer({"create"}).at("uuid").get<std::string>();
    const auto second = answer({"create"}).at("uuid").get<std::string>();
    REQUIRE(Uuid::parse(first));
    REQUIRE(first != second);
    REQUIRE(answer({"show", first}).at("tpm") == "2.0");
}

TEST_CASE_METHOD(Fixture, "the status names the TPM, the policy and the store") {
    const json status = answer({"status"});
    REQUIRE(status.at("manager").at("state") == "ready");
    REQUIRE(status.at("manager").at("sealing") == "tpm");
    REQUIRE(status.at("groups").at(0).at("pcrs") == "sha256:7");
    REQUIRE(status.at("manager").at("store") == place.state_directory() + "/store.db");
    REQUIRE(status.at("backend").at("running") == false);
    const Output text = xen_vtpm({"status"});
    REQUIRE(text.status == 0);
    REQUIRE_THAT(text.out, Contains("SWTPM") && Contains("sha256:7") && Contains("backend       not running"));
}

TEST_CASE_METHOD(Fixture, "the life of a group on the command line") {
    REQUIRE(xen_vtpm({"group", "create", "tenant"}).status == 2);  // sealed to what?
    REQUIRE(xen_vtpm({"group", "create", "tenant", "--tpm-only", "--pcrs", "sha256:7"}).status == 2);
    REQUIRE(xen_vtpm({"group", "create", "tenant", "--pcrs", "sha256:77"}).status == 2);
    REQUIRE(answer({"group", "create", "tenant", "--pcrs", "sha256:0,7"}).at("pcrs") == "sha256:0,7");
    REQUIRE(answer({"group", "create", "loose", "--tpm-only"}).at("pcrs") == "");
    REQUIRE(answer({"group", "list"}).size() == 3);
    REQUIRE(xen_vtpm({"create", "--group", "nobody", kUuid}).status == 3);
    REQUIRE(answer({"create", "--group", "tenant", kUuid}).at("uuid") == kUuid);
    REQUIRE(answer({"show", kUuid}).at("group") == "tenant");
    REQUIRE(answer({"group", "show", "tenant"}).at("vtpms") == 1);
    REQUIRE(xen_vtpm({"group", "delete", "tenant"}).status == 4);
    REQUIRE(xen_vtpm({"destroy", kUuid}).status == 0);
    REQUIRE(answer({"group", "delete", "tenant"}).at("deleted") == true);
    REQUIRE(xen_vtpm({"group", "show", "tenant"}).status == 3);
}

TEST_CASE_METHOD(Fixture, "each failure has its exit status, a text, and JSON where asked for") {
    REQUIRE(xen_vtpm({}).status == 2);
    REQUIRE(xen_vtpm({"show"}).status == 2);
    REQUIRE(xen_vtpm({"show", "not-a-uuid"}).status == 2);
    REQUIRE(xen_vtpm({"create", "--tpm", "3.0"}).status == 2);
    REQUIRE(xen_vtpm({"destroy", kUuid}).status == 3);
    REQUIRE(xen_vtpm({"create", kUuid}).status == 0);
    REQUIRE(xen_vtpm({"create", kUuid}).status == 4);

    BackendEnd backend(place.socket());
    const EngineEnd engine = backend.open(*Uuid::parse(kUuid));
    REQUIRE(answer({"show", kUuid}).at("in_use") == true);
    const Output busy = xen_vtpm({"--json", "destroy", kUuid});
    REQUIRE(busy.status == 4);
    REQUIRE(busy.out.empty());
    const json error = json::parse(busy.err).at("error");
    REQUIRE(error.at("code") == "in-use");
    REQUIRE_THAT(error.at("text").get<std::string>(), Contains("shut its guest down"));
}

TEST_CASE_METHOD(Fixture, "a manager that does not run is told as such") {
    manager.end(SIGTERM);
    const Output output = xen_vtpm({"list"});
    REQUIRE(output.status == 6);
    REQUIRE_THAT(output.err, Contains("does not run") && Contains("systemctl"));
    REQUIRE(cli("unix:path=/nonexistent", {"list"}).status == 6);
}

TEST_CASE_METHOD(Fixture, "help and version need no daemon") {
    REQUIRE_THAT(cli("unix:path=/nonexistent", {"--help"}).out, Contains("destroy"));
    REQUIRE(cli("unix:path=/nonexistent", {"--version"}).status == 0);
}
