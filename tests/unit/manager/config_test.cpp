// SPDX-License-Identifier: Apache-2.0
#include "manager/config.hpp"

#include "expect.hpp"

namespace vtpm::config_test {

namespace {

std::string error_of(std::string_view text) { return expect_error(parse_config(text, "manager.toml")).text; }

}  // namespace

TEST_CASE("an empty configuration is the default: sealed to the TPM under PCR 7") {
    const Config config = expect(parse_config("", "manager.toml"));
    REQUIRE(config.sealing == Sealing::kTpm);
    REQUIRE((config.tpm.empty() && config.tcti.empty()));
    REQUIRE(config.seal_pcrs.to_string() == "sha256:7");
    REQUIRE(config.host_pcrs.empty());
    REQUIRE(config.auto_create);
    REQUIRE(config.default_tpm == TpmVersion::k20);
    REQUIRE(config.profile.pcr_banks.to_string() == "sha256,sha384");
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

TEST_CASE("a key that is misspelt is told the right way") {
    REQUIRE_THAT(error_of("seal_pcr = 'sha256:7'"), Contains("'seal_pcr' is unknown: is 'seal_pcrs' meant?"));
    REQUIRE_THAT(error_of("statedirectory = '/srv'"), Contains("is 'state_directory' meant?"));
    REQUIRE_THAT(error_of("[profil]\n"), Contains("is 'profile' meant?"));
    REQUIRE_THAT(error_of("[profile]\npcr_bank = ['sha256']"),
                 Contains("manager.toml:2: 'profile.pcr_bank' is unknown: is 'pcr_banks' meant?"));
    REQUIRE_THAT(error_of("colour = 'red'"), !Contains("meant"));
    REQUIRE_THAT(error_of("'' = 1"), !Contains("meant"));
}

TEST_CASE("a wrong value of the configuration is an error with its line and what it should be") {
    REQUIRE_THAT(error_of("\nauto_create = 1"), Contains("manager.toml:2: 'auto_create' must be true or false"));
    REQUIRE_THAT(error_of("sealing = \"none\""), Contains("must be \"tpm\" or \"file\""));
    REQUIRE_THAT(error_of("default_tpm = 2.0"), Contains("must be \"2.0\" or \"1.2\""));
    REQUIRE_THAT(error_of("seal_pcrs = \"sha256:24\""), Contains("must be a PCR selection"));
    REQUIRE_THAT(error_of("tcti = true"), Contains("must be a string"));
}

TEST_CASE("the hardware TPM is named once") {
    REQUIRE(expect(parse_config("tpm = \"MSFT0101:00\"", "manager.toml")).tpm == "MSFT0101:00");
    expect(parse_config("tpm = \"\"\ntcti = \"swtpm:path=/x\"", "manager.toml"));
    REQUIRE_THAT(error_of("tpm = \"MSFT0101:00\"\ntcti = \"device:/dev/tpmrm0\""), Contains("'tpm' and 'tcti' both"));
    REQUIRE_THAT(error_of("tpm = 0"), Contains("must be a device's name such as"));
}

TEST_CASE("host_pcrs are PCRs of the host that a guest cannot reset, of SHA-256's bank if none is named") {
    const auto host_pcrs = [](const std::string &value) {
        return expect(parse_config("host_pcrs = \"" + value + "\"", "manager.toml")).host_pcrs.to_string();
    };
    REQUIRE(host_pcrs("").empty());
    REQUIRE(host_pcrs("0-7") == "sha256:0,1,2,3,4,5,6,7");
    REQUIRE(host_pcrs("0,2,4-7") == "sha256:0,2,4,5,6,7");
    REQUIRE(host_pcrs("sha384:15") == "sha384:15");
    for (const char *pcr : {"16", "17", "22", "23"}) {
        const std::string error = error_of(fmt::format("\nhost_pcrs = \"0-7,{}\"", pcr));
        REQUIRE_THAT(error, Contains("manager.toml:2: 'host_pcrs'") && Contains(fmt::format("not {}:", pcr)));
    }
    REQUIRE_THAT(error_of("host_pcrs = \"12-16\""), Contains("not 16:"));
    for (const char *wrong : {"24", "0-24", "7-0", "0-", "-7", "0--7", "0,", "seven", "sha256:", "sha3:7", " 7"})
        REQUIRE_THAT(error_of(fmt::format("host_pcrs = \"{}\"", wrong)), Contains(fmt::format("not \"{}\"", wrong)));
    REQUIRE_THAT(error_of("host_pcrs = 7"), Contains("must be PCRs such as"));
}

TEST_CASE("host_pcrs without a hardware TPM are an error, in whichever order they are said") {
    for (const char *text : {"sealing = \"file\"\nhost_pcrs = \"7\"", "host_pcrs = \"7\"\nsealing = \"file\""})
        REQUIRE_THAT(error_of(text), Contains("'host_pcrs' needs a hardware TPM") && Contains("sealing = \"tpm\""));
    expect(parse_config("sealing = \"file\"\nhost_pcrs = \"\"", "manager.toml"));
}

TEST_CASE("the PCR banks of the profile are of the four that there are, each once") {
    const auto banks = [](const std::string &text) {
        return expect(parse_config(text, "manager.toml")).profile.pcr_banks.to_string();
    };
    REQUIRE(banks("[profile]\npcr_banks = [\"sha384\", \"sha256\"]") == "sha256,sha384");
    REQUIRE(banks("profile.pcr_banks = [\"sha512\"]\nauto_create = false") == "sha512");
    REQUIRE(banks("[profile]\npcr_banks = [\"sha1\", \"sha256\", \"sha384\", \"sha512\"]") ==
            "sha1,sha256,sha384,sha512");
    REQUIRE(banks("[profile]\n") == "sha256,sha384");
    const auto error = [](const std::string &value) { return error_of("[profile]\npcr_banks = " + value); };
    REQUIRE_THAT(error("[\"sha256\", \"md5\"]"), Contains("manager.toml:2: 'profile.pcr_banks' must be PCR banks") &&
                                                     Contains("'md5' is not a PCR bank"));
    REQUIRE_THAT(error("[\"sha256\", \"sha384\", \"sha256\"]"), Contains("'sha256' is there twice"));
    for (const char *wrong : {"[]", "\"sha256\"", "[256]", "[\"\"]", "[\"SHA256\"]", "[[\"sha256\"]]", "true"})
        REQUIRE_THAT(error(wrong), Contains("'profile.pcr_banks' must be PCR banks such as"));
    REQUIRE_THAT(error_of("[profile]\nbanks = 1"), Contains("manager.toml:2: 'profile.banks' is unknown"));
    REQUIRE_THAT(error_of("profile = 1"), Contains("'profile' must be a table"));
    REQUIRE_THAT(error_of("pcr_banks = [\"sha256\"]"), Contains("'pcr_banks' is unknown"));
}

TEST_CASE("algorithms can be chosen where libtpms can do that, and are refused elsewhere") {
    const std::string some = "profile.algorithms = \"rsa,rsa-min-size=2048,sha256\"";
    if (kAlgorithmsCanBeChosen)
        REQUIRE(expect(parse_config(some, "manager.toml")).profile.algorithms == "rsa,rsa-min-size=2048,sha256");
    else
        REQUIRE_THAT(error_of(some), Contains("manager.toml:1: 'profile.algorithms' needs libtpms 0.10"));
    REQUIRE(expect(parse_config("profile.algorithms = \"\"", "manager.toml")).profile.algorithms.empty());
    for (const std::string wrong : {"true", "\"RSA\"", "\"rsa sha256\"", "'rsa\",\"Commands'", "[\"rsa\"]"})
        REQUIRE_THAT(error_of("profile.algorithms = " + wrong), Contains("must be algorithms as libtpms names them"));
    REQUIRE_FALSE(may_be_algorithms(std::string(kMaxAlgorithms + 1, 'a')));
}

TEST_CASE("PCR banks are read as they are written") {
    REQUIRE(expect(PcrBanks::parse("")).empty());
    REQUIRE(expect(PcrBanks::parse("sha512,sha1")).to_string() == "sha1,sha512");
    for (const char *wrong : {",", "sha256,", ",sha256", "sha256, sha384", "sha3", "sha256,sha256"})
        REQUIRE(expect_error(PcrBanks::parse(wrong)).code == ErrorCode::kInvalid);
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

}  // namespace vtpm::config_test
