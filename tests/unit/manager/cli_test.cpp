// SPDX-License-Identifier: Apache-2.0
#include "tests/catch.hpp"

#include <iterator>
#include <sstream>

#include "expect.hpp"
#include "manager/boot/measured_boot.hpp"
#include "manager/cli/exit_status.hpp"
#include "manager/cli/meter_commands.hpp"
#include "manager/cli/meters.hpp"
#include "manager/cli/old_words.hpp"
#include "manager/cli/text.hpp"
#include "temporary_directory.hpp"

namespace vtpm::cli_test {
using cli::Json;

TEST_CASE("the status says for how many more TPMs there is room") {
    Json status{{"manager", Json::object()}, {"backend", {{"running", true}, {"devices", Json::array()}}}};
    CHECK(cli::status_text(status).find("running, 0 devices\n") != std::string::npos);  // a backend of an older version
    status["backend"]["room"] = 8190;
    CHECK(cli::status_text(status).find("running, 0 devices, room for 8190 more TPMs\n") != std::string::npos);
}

TEST_CASE("an order to issue certificates is shown while there is one") {
    Json vtpm{{"uuid", "u"}, {"reissue", false}};
    CHECK_THAT(cli::show_text(vtpm), !Contains("issued again"));
    vtpm["reissue"] = true;
    CHECK_THAT(cli::show_text(vtpm), Contains("issued again"));
}

TEST_CASE("the exit statuses are those of the manual page") {
    REQUIRE(cli::exit_status(ErrorCode::kSystem) == 1);
    REQUIRE(cli::exit_status(ErrorCode::kStoreFailed) == 1);
    REQUIRE(cli::exit_status(ErrorCode::kInvalid) == 2);
    REQUIRE(cli::exit_status(ErrorCode::kNotFound) == 3);
    REQUIRE(cli::exit_status(ErrorCode::kInUse) == 4);
    REQUIRE(cli::exit_status(ErrorCode::kRefused) == 5);
    REQUIRE(cli::exit_status(ErrorCode::kUnavailable) == 6);
    REQUIRE(cli::exit_status(ErrorCode::kWrongState) == 7);
}

TEST_CASE("a status without any key is still a status") {
    const Json empty{{"manager", Json::object()}, {"backend", {{"running", false}, {"devices", Json::array()}}}};
    REQUIRE_THAT(cli::status_text(empty), Contains("not running"));
}

TEST_CASE("a vTPM's devices are shown with it") {
    const Json device{{"device", "3/0"}, {"state", "connected"}, {"engine_pid", 42}, {"reason", ""}};
    const Json vtpm{{"uuid", "u"}, {"in_use", true}, {"devices", {device}}};
    REQUIRE_THAT(cli::show_text(vtpm), Contains("3/0") && Contains("engine 42") && !Contains("version"));
    const Json old{{"uuid", "u"}, {"devices", {{{"device", "3/0"}, {"engine_pid", 42}, {"engine_version", "0.0.1"}}}}};
    REQUIRE_THAT(cli::show_text(old), Contains("engine 42 (version 0.0.1, until the guest is rebooted: xl reboot)"));
    REQUIRE(cli::list_text(Json::array({vtpm}), {{"domain"}, true}) == "3\n");
}

TEST_CASE("engines are there as long as systemd has a scope of theirs") {
    const TemporaryDirectory cgroups;
    CHECK_FALSE(cli::any_engine_runs(cgroups.path()));
    const std::string slice = cgroups / GENERATE("system.slice", "systemd/system.slice");
    std::filesystem::create_directories(slice + "/xen-vtpmd.service");
    CHECK_FALSE(cli::any_engine_runs(cgroups.path()));
    std::filesystem::create_directory(slice + "/xen-vtpm-engines-4711.scope");
    CHECK(cli::any_engine_runs(cgroups.path()));
}

TEST_CASE("top tells what happened between two looks, the busiest guest first") {
    const auto meter = [](const char *device, const char *uuid, std::uint64_t commands, const char *latency,
                          const char *errors, std::uint64_t stores) {
        return Json{{"device", device}, {"uuid", uuid},      {"commands", commands}, {"latency", latency},
                    {"errors", errors}, {"other_errors", 0}, {"stores", stores}};
    };
    const Json before =
        Json::array({meter("1/0", "u1", 10, "0 0 0 10", "0x922:1", 3), meter("2/0", "u2", 50, "50", "", 50)});
    const Json after = Json::array({meter("1/0", "u1", 30, "0 0 0 20 0 0 0 0 0 0 10", "0x922:1 0x9a2:4", 7),
                                    meter("2/0", "u2", 20, "20", "", 20),       // another engine: it was rebooted
                                    meter("3/0", "u3", 100, "0 100", "", 0)});  // it came meanwhile
    const Json top = cli::top_of(before, after, std::chrono::seconds(2), Json{{"u1", "web"}});
    REQUIRE(top.size() == 3);
    CHECK(top.at(0).at("uuid") == "u3");
    CHECK(top.at(0).at("commands_per_second") == 50.0);
    CHECK(top.at(0).at("p99_us") == 2);
    CHECK(top.at(1).at("name") == "web");
    CHECK(top.at(1).at("commands_per_second") == 10.0);
    CHECK(top.at(1).at("p50_us") == 8);
    CHECK(top.at(1).at("p99_us") == 1024);
    CHECK(top.at(1).at("errors_per_second") == 2.0);
    CHECK(top.at(1).at("stores_per_second") == 2.0);
    CHECK(top.at(2).at("commands_per_second") == 10.0);
    const std::string all = cli::top_text(top, 0);
    CHECK_THAT(all, Contains("3 TPMs run, 70.0 commands/s, 2.0 errors/s"));
    CHECK_THAT(all, Contains("web") && Contains("8 us") && Contains("1 ms"));
    CHECK_THAT(cli::top_text(top, 1), Contains("u3") && !Contains("web") && Contains("2 more"));
    CHECK(cli::top_text(Json::array(), 0) == "0 TPMs run, 0.0 commands/s, 0.0 errors/s\n");
}

TEST_CASE("a daemon that says less of a meter, or something else, is no error") {
    const Json strange =
        Json::array({Json{{"device", "1/0"}, {"uuid", "u"}, {"latency", "x 1"}, {"errors", "y 0x1:"}}});
    CHECK(cli::top_of(strange, strange, std::chrono::seconds(0), Json::object()).at(0).at("commands_per_second") ==
          0.0);
    CHECK(cli::counted_json(strange.at(0)).at("commands") == 0);
}

TEST_CASE("what a vTPM's guest did is shown with its device") {
    const Json counted = cli::counted_json(Json{
        {"commands", 12}, {"latency", "0 0 0 0 0 11 1"}, {"errors", "0x922:3"}, {"other_errors", 2}, {"stores", 4}});
    const Json vtpm{{"uuid", "u"}, {"devices", Json::array({Json{{"device", "1/0"}, {"counted", counted}}})}};
    CHECK_THAT(cli::show_text(vtpm), Contains("12, half of them within 32 us, 99 % within 64 us; 4 stores; errors: "
                                              "0x922 3 times, other 2 times"));
}

TEST_CASE("a list has the columns that are asked for, and its state is one word") {
    const auto row = [](Json more) {
        Json vtpm{{"uuid", "u"},
                  {"tpm", "2.0"},
                  {"group", "default"},
                  {"sequence", 1},
                  {"in_use", false},
                  {"saved", false},
                  {"reason", ""},
                  {"alias", ""},
                  {"guest", ""},
                  {"last_used", ""},
                  {"devices", Json::array()}};
        vtpm.update(more);
        return vtpm;
    };
    const auto listed = [&](const Json &more, std::vector<std::string> columns) {
        return cli::list_text(Json::array({row(more)}), {std::move(columns), true});
    };
    REQUIRE(listed({{"guest", "web"}}, {"name", "UUID", "Last-Used"}) == "web\tu\t-\n");
    REQUIRE(listed({{"guest", "web"}, {"alias", "shop"}, {"last_used", "2026-01-02T03:04:05Z"}},
                   {"name", "last-used"}) == "shop\t2026-01-02T03:04:05Z\n");
    REQUIRE(listed({{"sequence", 0}}, {"state", "last-used"}) == "new\tnever\n");
    REQUIRE(listed(Json::object(), {"state"}) == "off\n");
    REQUIRE(listed({{"in_use", true}}, {"state", "last-used"}) == "running\tnow\n");
    REQUIRE(listed({{"saved", true}}, {"state"}) == "saved\n");
    REQUIRE(listed({{"reason", "its row was put back"}}, {"state"}) == "locked\n");
    REQUIRE(listed({{"devices", {{{"device", "3/0"}}, {{"device", "4/1"}}}}}, {"state", "domain"}) ==
            "attached\t3,4\n");
    REQUIRE(cli::list_text(Json::array(), {{}, true}).empty());
    REQUIRE_THAT(cli::list_text(Json::array({row({{"guest", std::string(40, 'n')}})})),
                 Contains("NAME " + std::string(37, ' ') + "UUID") && Contains(std::string(40, 'n') + "  u "));
    REQUIRE_THAT(expect_error(cli::require_columns({{"name", "size"}, false})).text, Contains("no column 'size'"));
    REQUIRE(cli::names_in_brackets(row({{"alias", "a"}, {"guest", "g"}})) == " (a, last used by guest g)");
    REQUIRE(cli::names_in_brackets(row(Json::object())).empty());
}

TEST_CASE("a vTPM is unused since its last power-on, or since it was made, unless nobody knows") {
    const Json used{{"created", "1970-01-01T00:00:10Z"},
                    {"last_used", "1970-01-01T00:00:20Z"},
                    {"sequence", 3},
                    {"in_use", false},
                    {"saved", false},
                    {"devices", Json::array()}};
    const auto with = [&](const char *key, const Json &value) {
        Json vtpm = used;
        vtpm[key] = value;
        return cli::unused_since(vtpm);
    };
    REQUIRE(cli::unused_since(used) == 20);
    REQUIRE(with("sequence", 0) == 10);
    REQUIRE(with("last_used", "") == std::nullopt);  // a row of before schema 14
    REQUIRE(with("in_use", true) == std::nullopt);
    REQUIRE(with("saved", true) == std::nullopt);
    REQUIRE(with("devices", Json::array({{{"device", "3/0"}}})) == std::nullopt);
    REQUIRE(cli::unused_since({{"uuid", "a damaged row"}}) == std::nullopt);
}

TEST_CASE("what policy predict prints for people is as good for policy sign as its JSON") {
    MeasuredBoot boot{expect(PcrSelection::parse("sha256:4,7,14")), {}, {}, {4}};
    for (const unsigned pcr : boot.pcrs.numbers()) boot.values[pcr] = Bytes(32, static_cast<std::uint8_t>(pcr));
    if (GENERATE(true, false)) boot.events = {{7, "EV_EFI_VARIABLE", Bytes(32, 1), "PCR 7 dbx"}};
    if (GENERATE(true, false)) boot.chain = {{{4, "PCR 4"}, {7, "Secure Boot is on"}}, {"PCR 9 0000"}};
    if (GENERATE(true, false)) boot.unknown = {{8, "GRUB obeys another grub.cfg"}, {9, "PCR 9 of what?"}};
    const std::string json = to_json(boot);
    const std::string text = cli::predict_policy_text(Json::parse(json));
    for (const std::string &printed : {json, text, "# of Monday\n\n" + text, "\n" + json}) {
        const MeasuredBoot read = expect(parse_measured_boot(printed));
        REQUIRE(read.pcrs.to_string() == "sha256:4,7,14");
        REQUIRE(read.values == boot.values);
        REQUIRE(read.unknown.size() == boot.unknown.size());
        REQUIRE(std::ranges::equal(
            read.unknown, boot.unknown, {}, [](const auto &u) { return u.first; },
            [](const auto &u) { return u.first; }));
    }
    const std::string twice = text + "PCR 7   " + std::string(64, '0') + "\n";
    const std::string cut = text.substr(0, text.find("PCR 14"));
    const std::string other_bank = "PCRs sha384:4\n" + text;
    for (const std::string &wrong :
         {twice, twice + "PCR 7   unknown\n", cut, other_bank, text.substr(text.find('\n')), text + "more\n",
          std::string(), std::string("PCRs sha256:4\nPCR 4 00 00\n"), std::string("PCRs sha256:4\nPCR 4 xx\n")})
        REQUIRE(expect_error(parse_measured_boot(wrong)).code == ErrorCode::kInvalid);
}

TEST_CASE("a group that waits stands as waiting, and one that is refused as locked") {
    const auto texts = [](const char *state) {
        const Json group{{"group", "tenant"}, {"state", state}, {"reason", "the TPM is busy"}};
        return cli::show_group_text(group) + cli::list_groups_text(Json::array({group}));
    };
    REQUIRE_THAT(texts("waiting"), Contains("waiting       the TPM is busy") && Contains("  waiting\n") &&
                                       !Contains("locked", Catch::CaseSensitive::No));
    REQUIRE_THAT(texts("refused"),
                 Contains("locked        the TPM is busy") && Contains("  locked\n") && !Contains("waiting"));
}

TEST_CASE("the status and a group say how many launch approvals it has, if there are any") {
    Json group{{"group", "tenant"}, {"state", "open"}, {"launch_approvals", 3}};
    const auto texts = [&] {
        return cli::show_group_text(group) +
               cli::status_text({{"manager", Json::object()},
                                 {"groups", {group}},
                                 {"backend", {{"running", false}, {"devices", Json::array()}}}});
    };
    CHECK_THAT(texts(), Contains("; 3 launch approvals\n") && Contains("launches      3 launch approvals\n"));
    group["launch_approvals"] = 0;
    CHECK_THAT(texts(), !Contains("approvals"));
    group.erase("launch_approvals");  // a manager of an older version
    CHECK_THAT(texts(), !Contains("approvals"));
}

TEST_CASE("the words of release 0.1 become the present ones") {
    const auto split = [](const std::string &line) {
        std::istringstream in(line);
        return std::vector<std::string>(std::istream_iterator<std::string>(in), {});
    };
    const std::pair<const char *, const char *> cases[] = {
        {"destroy U", "delete --yes U"},
        {"--json destroy U", "delete --yes --json U"},
        {"create --tpm 1.2 U", "create --tpm-version 1.2 U"},
        {"create --tpm=1.2", "create --tpm-version=1.2"},
        {"group renew g --json", "group revoke-approvals g --json"},
        {"group --json reseal g --pcrs sha256:7", "group seal --json g --pcrs sha256:7"},
        {"group export-recovery --replace g", "group recovery-key --rotate g"},
        {"group delete g", "group delete g"},
        {"group delete --lost g", "group delete --with-vtpms --yes g"},
        {"group recover --key k g", "group recover --recovery-key k g"},
        {"recover --accept-rollback g", "group accept-rollback g"},
        {"recover --accept-rollback=g", "group accept-rollback g"},
        {"recover --new-store", "store reset --yes"},
        {"recover", "recover"},
        {"ca export --request --group g", "ca csr --group g"},
        {"ca export", "ca certificate"},
        {"ca import-signed f", "ca install-certificate f"},
        {"policy revoke p", "policy remove p"},
        {"policy predict --next --pcrs sha256:7", "policy predict --pcrs sha256:7"},
        {"policy sign --key k --values v", "policy sign --key k --measurements v"},
        {"attest --nonce n U", "attestation create --nonce n U"},
        {"verify-attestation f --vtpm U --values v --endorsement-key e",
         "attestation verify f --uuid U --measurements v --write-ek e"},
        {"host challenge f --makers m --answer a", "host challenge f --tpm-ca m --write-answer a"},
        {"audit --verify", "audit verify"},
        {"audit", "audit"},
        // What is no command is left as it is.
        {"show destroy", "show destroy"},
        {"export U destroy", "export U destroy"},
        {"group show renew", "group show renew"},
        {"", ""},
    };
    for (const auto &[old, present] : cases) {
        CAPTURE(old);
        CHECK(cli::with_present_words(split(old)) == split(present));
    }
    for (const auto &[old, present] : cases) {
        CAPTURE(present);
        CHECK(cli::with_present_words(split(present)) == split(present));
    }
}

}  // namespace vtpm::cli_test
