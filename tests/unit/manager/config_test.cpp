// SPDX-License-Identifier: Apache-2.0
#include "manager/config.hpp"

#include "expect.hpp"

using namespace vtpm;
using Catch::Matchers::Contains;

namespace {

std::string error_of(std::string_view text) { return expect_error(parse_config(text, "manager.toml")).text; }

}  // namespace

TEST_CASE("an empty configuration is the default: sealed to the TPM under PCR 7") {
    const Config config = expect(parse_config("", "manager.toml"));
    REQUIRE(config.sealing == Sealing::kTpm);
    REQUIRE(config.tcti == "device:/dev/tpmrm0");
    REQUIRE(config.seal_pcrs.to_string() == "sha256:7");
    REQUIRE(config.auto_create);
    REQUIRE(config.default_tpm == TpmVersion::k20);
}

TEST_CASE("every key of the configuration is taken") {
    const Config config = expect(parse_config(R"(
sealing = "file"
tcti = "swtpm:path=/x"
seal_pcrs = ""
auto_create = false
ek_certificates = false
default_tpm = "1.2"
state_directory = "/a"
socket = "/b"
)",
                                              "manager.toml"));
    REQUIRE(config.sealing == Sealing::kFile);
    REQUIRE(config.tcti == "swtpm:path=/x");
    REQUIRE(config.seal_pcrs.empty());
    REQUIRE_FALSE(config.auto_create);
    REQUIRE_FALSE(config.ek_certificates);
    REQUIRE(config.default_tpm == TpmVersion::k12);
    REQUIRE(config.state_directory == "/a");
    REQUIRE(config.socket == "/b");
}

TEST_CASE("an unknown key of the configuration is an error with its line") {
    REQUIRE_THAT(error_of("auto_create = true\nauto_destroy = true\n"),
                 Contains("manager.toml:2: 'auto_destroy' is unknown"));
}

TEST_CASE("a wrong value of the configuration is an error with its line and what it should be") {
    REQUIRE_THAT(error_of("\nauto_create = 1"), Contains("manager.toml:2: 'auto_create' must be true or false"));
    REQUIRE_THAT(error_of("sealing = \"none\""), Contains("must be \"tpm\" or \"file\""));
    REQUIRE_THAT(error_of("default_tpm = 2.0"), Contains("must be \"2.0\" or \"1.2\""));
    REQUIRE_THAT(error_of("seal_pcrs = \"sha256:24\""), Contains("must be a PCR selection"));
    REQUIRE_THAT(error_of("tcti = true"), Contains("must be a string"));
}

TEST_CASE("what is not TOML is an error with its line") {
    REQUIRE_THAT(error_of("auto_create = true\nsealing =\n"), Contains("manager.toml:2"));
}

TEST_CASE("PCR selections are read as they are written") {
    REQUIRE(expect(PcrSelection::parse("")).empty());
    const TPML_PCR_SELECTION list = expect(PcrSelection::parse("sha384:0,2,23")).tpm();
    REQUIRE(list.count == 1);
    REQUIRE(list.pcrSelections[0].hash == TPM2_ALG_SHA384);
    REQUIRE(list.pcrSelections[0].pcrSelect[0] == 0x05);
    REQUIRE(list.pcrSelections[0].pcrSelect[2] == 0x80);
    REQUIRE(expect(PcrSelection::parse("sha256:0,4-7,5,23-23")).to_string() == "sha256:0,4,5,6,7,23");
    for (const char *wrong : {"7", "sha256", "sha256:", "sha256:7,", "sha256:-1", "sha256:24", "sha256:4-",
                              "sha256:4-24", "sha256:5-4", "sha256:1-2-3", "sha3:7", "sha256:7 ", ":7"})
        REQUIRE(expect_error(PcrSelection::parse(wrong)).code == ErrorCode::kInvalid);
}

TEST_CASE("a bank that the TPM has not allocated does not hold a selection") {
    const TPML_PCR_SELECTION allocated = expect(PcrSelection::parse("sha1:0,1,2,3,4,5,6,7")).tpm();
    REQUIRE(expect(PcrSelection::parse("sha1:0,7")).within(allocated));
    REQUIRE_FALSE(expect(PcrSelection::parse("sha1:8")).within(allocated));
    REQUIRE_FALSE(expect(PcrSelection::parse("sha256:7")).within(allocated));
    REQUIRE(expect(PcrSelection::parse("")).within(allocated));
}
