// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include "manager/cli/exit_status.hpp"
#include "manager/cli/text.hpp"

namespace vtpm::cli_test {
using Catch::Matchers::Contains;
using cli::Json;

TEST_CASE("the exit statuses are those of the manual page") {
    REQUIRE(cli::exit_status(ErrorCode::kSystem) == 1);
    REQUIRE(cli::exit_status(ErrorCode::kStoreFailed) == 1);
    REQUIRE(cli::exit_status(ErrorCode::kInvalid) == 2);
    REQUIRE(cli::exit_status(ErrorCode::kNotFound) == 3);
    REQUIRE(cli::exit_status(ErrorCode::kInUse) == 4);
    REQUIRE(cli::exit_status(ErrorCode::kRefused) == 5);
    REQUIRE(cli::exit_status(ErrorCode::kUnavailable) == 6);
}

TEST_CASE("a status without any key is still a status") {
    const Json empty{{"manager", Json::object()}, {"backend", {{"running", false}, {"devices", Json::array()}}}};
    REQUIRE_THAT(cli::status_text(empty), Contains("not running"));
}

TEST_CASE("a refusing manager's status says why") {
    const Json status{{"manager", {{"state", "refusing"}, {"reason", "not this TPM"}, {"sealing", "tpm"}}},
                      {"backend", {{"running", false}, {"devices", Json::array()}}}};
    REQUIRE_THAT(cli::status_text(status), Contains("refusing") && Contains("not this TPM"));
}

TEST_CASE("file sealing is loud in the status") {
    const Json group{{"group", "default"}, {"sealing", "file"}};
    const Json status{{"manager", {{"state", "ready"}, {"sealing", "file"}, {"sealed_to", "the file x"}}},
                      {"groups", {group}},
                      {"backend", {{"running", true}, {"devices", Json::array()}}}};
    REQUIRE_THAT(cli::status_text(status), Contains("sealed to NONE"));
}

TEST_CASE("a vTPM's devices are shown with it") {
    const Json device{{"device", "3/0"}, {"state", "connected"}, {"engine_pid", 42}, {"reason", ""}};
    const Json vtpm{{"uuid", "u"}, {"in_use", true}, {"devices", {device}}};
    REQUIRE_THAT(cli::show_text(vtpm), Contains("3/0") && Contains("engine 42") && !Contains("version"));
    const Json old{{"uuid", "u"}, {"devices", {{{"device", "3/0"}, {"engine_pid", 42}, {"engine_version", "0.0.1"}}}}};
    REQUIRE_THAT(cli::show_text(old), Contains("engine 42 (version 0.0.1, until the guest is power cycled)"));
    REQUIRE_THAT(cli::list_text(Json::array({vtpm})), Contains("3/0"));
}

}  // namespace vtpm::cli_test
