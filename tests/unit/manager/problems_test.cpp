// SPDX-License-Identifier: Apache-2.0
#include "tests/catch.hpp"

#include <fmt/format.h>

#include "manager/cli/problems.hpp"
#include "manager/cli/text.hpp"

namespace vtpm::problems_test {

using cli::Json;

Json good() {
    return {{"manager", {{"state", "ready"}, {"reason", ""}}},
            {"groups", {{{"group", "default"}, {"state", "open"}, {"reason", ""}, {"recovery_key", true}}}},
            {"backend", {{"running", true}, {"room", 10}, {"devices", Json::array()}}}};
}

Json group(const char *state, const char *reason) {
    return {{"group", "tenant"}, {"state", state}, {"reason", reason}, {"recovery_key", true}};
}

Json device(const char *state, const char *reason) {
    return {{"device", "7/0"}, {"uuid", "u"}, {"state", state}, {"reason", reason}};
}

TEST_CASE("a host on which all is well has no problems") {
    CHECK(cli::problems_of(good()).empty());
    CHECK(cli::problems_of(Json::object()).size() == 1);  // nothing is known but that no backend runs
    Json status = good();
    status["backend"]["devices"].push_back(device("being taken over", ""));
    CHECK(cli::problems_of(status).empty());
    status["problems"] = Json::array();
    CHECK_THAT(cli::status_text(status), Contains("\nno problems\n") && Contains("7/0     being taken over"));
}

TEST_CASE("each problem says what it is, what to do, and whether the host does its work") {
    struct Case {
        const char *where;
        Json value;
        ErrorCode code;
        const char *what;
        const char *remedy;
    };
    const Case cases[] = {
        {"/manager",
         {{"state", "not running"}, {"reason", "no such name"}},
         ErrorCode::kUnavailable,
         "xen-vtpm-managerd does not run (no such name)",
         "systemctl start xen-vtpm-managerd"},
        {"/manager",
         {{"state", "refusing"}, {"reason", "not this TPM"}},
         ErrorCode::kRefused,
         "all groups are locked: not this TPM",
         "xen-vtpm group open default; or, with its recovery key, one group after the other: xen-vtpm group recover"},
        {"/manager/sealer_trouble", "it has not answered for 9 s", ErrorCode::kUnavailable,
         "hardware TPM: it has not answered", "journalctl"},
        {"/manager/lost_group", "the group was removed", ErrorCode::kRefused,
         "do not fit together: the group was removed", "restore"},
        {"/manager/clock_trouble", "it says 1970", ErrorCode::kNone, "clock of this host: it says 1970",
         "xen-vtpm reissue"},
        {"/groups/0", group("refused", "PCR 7 differs"), ErrorCode::kRefused, "group 'tenant' is locked: PCR 7 differs",
         "xen-vtpm group recover tenant"},
        {"/groups/0", group("waiting", "the TPM is busy"), ErrorCode::kUnavailable,
         "group 'tenant' waits: the TPM is busy", "opens by itself"},
        {"/groups/0/recovery_key", false, ErrorCode::kNone, "another mainboard loses",
         "xen-vtpm group recovery-key default"},
        {"/groups/0/sealing", "file", ErrorCode::kNone, "anyone who has the disk has its keys", "hardware TPM"},
        {"/backend/running", false, ErrorCode::kUnavailable, "xen-vtpmd does not run", "systemctl start xen-vtpmd"},
        {"/backend/room", 0, ErrorCode::kUnavailable, "no room for another TPM", "memory"},
        {"/backend/devices", Json::array({device("failed", "its engine ended by signal 9")}), ErrorCode::kSystem,
         "device 7/0, vTPM u: failed: its engine ended by signal 9", "xl reboot 7"},
    };
    for (const Case &one : cases) {
        CAPTURE(one.where, one.what);
        Json status = good();
        status[Json::json_pointer(one.where)] = one.value;
        const auto problems = cli::problems_of(status);
        REQUIRE(problems.size() == 1);
        CHECK(problems[0].code == one.code);
        CHECK_THAT(problems[0].what, Contains(one.what));
        CHECK_THAT(problems[0].remedy, Contains(one.remedy));
    }
}

TEST_CASE("what is lost without a recovery key depends on what the group is sealed to") {
    const auto problem = [](const char *key, const char *value) {
        Json status = good();
        status["groups"][0]["recovery_key"] = false;
        status["groups"][0][key] = value;
        return cli::problems_of(status).front().what;
    };
    CHECK_THAT(problem("pcrs", "sha256:7"), Contains("an update that changes its PCRs"));
    CHECK_THAT(problem("approver", "SHA256:00"), Contains("its approver's key"));
    CHECK_THAT(problem("sealing", "file"), Contains("the loss of the key file"));
}

TEST_CASE("what needs a recovery key is not advised where there is none, nor to make one while the group is locked") {
    Json status = good();
    status["groups"][0] = group("refused", "PCR 7 differs");
    status["groups"][0]["recovery_key"] = false;
    const auto problems = cli::problems_of(status);
    REQUIRE(problems.size() == 1);
    CHECK_THAT(problems[0].remedy, Contains("group open tenant") && !Contains("recover"));
}

TEST_CASE("an approver's group without a boot policy is told before the manager's next start") {
    Json status = good();
    status["groups"][0]["approver"] = "SHA256:00";
    status["groups"][0]["policies"] = 1;
    CHECK(cli::problems_of(status).empty());
    status["groups"][0]["policies"] = 0;
    CHECK_THAT(cli::problems_of(status).at(0).what, Contains("no boot policy"));
}

TEST_CASE("what all groups are locked for is said once, and what is locked comes first") {
    Json status = good();
    status["groups"] = {group("refused", "not this TPM"), group("refused", "its row is damaged")};
    status["backend"]["running"] = false;
    status["manager"] = {{"state", "refusing"}, {"reason", "not this TPM"}, {"clock_trouble", "it says 1970"}};
    std::vector<ErrorCode> codes;
    for (const cli::Problem &problem : cli::problems_of(status)) codes.push_back(problem.code);
    CHECK(codes == std::vector{ErrorCode::kRefused, ErrorCode::kRefused, ErrorCode::kUnavailable, ErrorCode::kNone});
}

TEST_CASE("the status of a thousand devices stays on a screen") {
    Json status = good();
    for (int i = 0; i < 1000; ++i) status["backend"]["devices"].push_back(device("failed", "why"));
    status["problems"] = Json::array();
    for (const cli::Problem &problem : cli::problems_of(status))
        status["problems"].push_back({{"problem", problem.what}, {"remedy", problem.remedy}, {"degraded", true}});
    const std::string text = cli::status_text(status);
    CHECK(std::ranges::count(text, '\n') < 40);
    CHECK_THAT(text, Contains("992 more: xen-vtpm list") && Contains("992 more: xen-vtpm --json status"));
}

}  // namespace vtpm::problems_test
