// SPDX-License-Identifier: Apache-2.0
#include "manager/systemd_unit.hpp"

#include <fstream>

#include "expect.hpp"
#include "temporary_directory.hpp"

namespace vtpm::systemd_unit_test {
using Catch::Matchers::EndsWith;

namespace {

Config config(const std::string &text) { return expect(parse_config(text, "manager.toml")); }

std::string manager(const std::string &text) { return expect(drop_in_of_manager(config(text))); }
std::string backend(const std::string &text) { return expect(drop_in_of_backend(config(text))); }

}  // namespace

TEST_CASE("what the unit lets through by itself needs no drop-in") {
    const auto *const text =
        GENERATE("", "state_directory = \"/var/lib/xen-vtpm/\"\nsocket = \"/run/xen-vtpm/./manager.sock\"",
                 "tcti = \"device:/dev/tpmrm0\"", "tcti = \"device:/dev/tpmrm3\"", "tpm = \"MSFT0101:00\"",
                 "tcti = \"swtpm:path=/run/swtpm/socket\"", "tcti = \"tabrmd:\"",
                 "sealing = \"file\"\ntcti = \"device:/dev/tpm0\"");
    REQUIRE(manager(text).empty());
    REQUIRE(backend(text).empty());
    REQUIRE(drop_in_advice(config(text)).empty());
}

TEST_CASE("a state directory elsewhere is let through, or made by systemd") {
    REQUIRE_THAT(manager("state_directory = \"/srv/vtpm\""),
                 EndsWith("[Unit]\nRequiresMountsFor=\"/srv/vtpm\"\n[Service]\nReadWritePaths=\"-/srv/vtpm\"\n"));
    REQUIRE_THAT(manager("state_directory = \"/var/lib/other/vtpm\""), EndsWith("StateDirectory=\"other/vtpm\"\n"));
    REQUIRE_THAT(manager(R"(state_directory = "/srv/a \"b\" 100%")"),
                 Contains(R"(ReadWritePaths="-/srv/a \"b\" 100%%")"));
    REQUIRE_THAT(drop_in_advice(config("state_directory = \"/srv/vtpm\"")), Contains("--drop-in"));
}

TEST_CASE("a socket elsewhere is for both daemons") {
    const std::string text = "socket = \"/run/vtpm-2/manager.sock\"";
    REQUIRE_THAT(manager(text), EndsWith("[Service]\nRuntimeDirectory=\"vtpm-2\"\n"));
    REQUIRE_THAT(backend(text), Contains("ExecStart=\nExecStart=/") &&
                                    EndsWith("/xen-vtpmd --manager-socket \"/run/vtpm-2/manager.sock\"\n"));
    REQUIRE_THAT(manager("socket = \"/srv/vtpm/manager.sock\""), EndsWith("ReadWritePaths=\"-/srv/vtpm\"\n"));
}

TEST_CASE("a TPM that is no /dev/tpmrm is let through") {
    REQUIRE_THAT(manager("tcti = \"device:/dev/tpm0\""), EndsWith("[Service]\nDeviceAllow=\"/dev/tpm0\" rw\n"));
    REQUIRE_THAT(tcti_advice(config("tcti = \"device:/dev/tpm0\"")), Contains("--drop-in"));
    REQUIRE(tcti_advice(config("state_directory = \"/srv/vtpm\"")).empty());
    REQUIRE_THAT(manager("tcti = \"swtpm:port=2321\""), Contains("PrivateNetwork=no") && Contains("AF_INET AF_INET6") &&
                                                            EndsWith("IPAddressAllow=localhost\n"));
    REQUIRE_THAT(manager("tcti = \"mssim:host=tpm.example.org,port=2321\""), EndsWith("IPAddressAllow=any\n"));
    REQUIRE_THAT(manager("tcti = \"mssim:host=localhost,port=2321\""), EndsWith("IPAddressAllow=localhost\n"));
}

TEST_CASE("what no drop-in lets through is refused, with the reason") {
    const auto [text, reason] = GENERATE(table<const char *, const char *>({
        {"state_directory = \"vtpm\"", "absolute"},
        {"state_directory = \"\"", "absolute"},
        {"state_directory = \"/\"", "absolute"},
        {"state_directory = \"/srv/a\\nExecStart=b\"", "absolute"},
        {"state_directory = \"/home/vtpm\"", "/home"},
        {"state_directory = \"/srv/../root\"", "/root"},
        {"state_directory = \"/tmp\"", "/tmp"},
        {"socket = \"/run/manager.sock\"", "directory of its own"},
    }));
    REQUIRE_THAT(expect_error(drop_in_of_manager(config(text))).text, Contains(reason));
    REQUIRE_THAT(drop_in_advice(config(text)), Contains(reason));
}

TEST_CASE("the firmware's log is that of the TPM that is used, whatever its number is") {
    REQUIRE(event_log_of("device:/dev/tpmrm3", "/run/c") == "/run/c/event-log-3");
    REQUIRE(event_log_of("device:/dev/tpm12", "/run/c") == "/run/c/event-log-12");
    REQUIRE(event_log_of("swtpm:path=/x", "/run/c") == "/run/c/event-log");
    REQUIRE(event_log_of("device:/dev/tpmrm../x", "/run/c") == "/run/c/event-log");
    REQUIRE(event_log_of("device:/dev/tpmrm3", nullptr) == "/sys/kernel/security/tpm3/binary_bios_measurements");
}

TEST_CASE("the hierarchies' passwords are what the credentials say, without a newline at the end") {
    TemporaryDirectory credentials;
    const auto write = [&](const char *name, const std::string &content) {
        std::ofstream(credentials / name) << content;
    };
    const auto owner = [&] {
        const HierarchyPasswords passwords = expect(passwords_of(credentials.path().c_str()));
        REQUIRE(passwords.endorsement.empty());
        return std::string(passwords.owner.view().begin(), passwords.owner.view().end());
    };
    REQUIRE(expect(passwords_of(nullptr)).owner.empty());
    REQUIRE(owner().empty());
    for (const std::string password : {"pw", "p w\n", "", "\xff"}) {
        write("tpm-owner-password", password + "\n");
        REQUIRE(owner() == password);
    }
    write("tpm-owner-password", std::string(64, 'p') + "\n");
    REQUIRE(owner().size() == 64);
    write("tpm-owner-password", std::string(65, 'p'));
    const Error error = expect_error(passwords_of(credentials.path().c_str()));
    REQUIRE(error.code == ErrorCode::kInvalid);
    REQUIRE_THAT(error.text, Contains("tpm-owner-password") && !Contains("pp"));
}

}  // namespace vtpm::systemd_unit_test
