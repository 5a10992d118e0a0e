// SPDX-License-Identifier: Apache-2.0
#include "manager/config.hpp"

#include <toml++/toml.h>

#include <fstream>
#include <sstream>

namespace vtpm {
namespace {

constexpr std::string_view kDefaultPcrs = "sha256:7";
constexpr std::string_view kDefaultBank = "sha256:";
constexpr unsigned kLastHostPcr = 15;  // guests can reset 16 and 23; 17 to 22 take nothing from locality 0

// Each takes one value, or says what it should have been.
bool take(const toml::node &node, bool &value) {
    const auto given = node.value_exact<bool>();
    if (given) value = *given;
    return given.has_value();
}
bool take(const toml::node &node, std::string &value) {
    const auto given = node.value_exact<std::string>();
    if (given) value = *given;
    return given.has_value();
}
bool take(const toml::node &node, Sealing &value) {
    const auto given = node.value_exact<std::string_view>();
    if (given == "tpm") value = Sealing::kTpm;
    if (given == "file") value = Sealing::kFile;
    return given == "tpm" || given == "file";
}
bool take(const toml::node &node, TpmVersion &value) {
    const auto version = parse_tpm_version(node.value_exact<std::string_view>().value_or(""));
    if (version) value = *version;
    return version.has_value();
}
bool take(const toml::node &node, PcrSelection &value) {
    const auto given = node.value_exact<std::string_view>();
    if (!given) return false;
    auto selection = PcrSelection::parse(*given);
    if (selection) value = std::move(*selection);
    return selection.has_value();
}

// Empty: taken. Otherwise what is wrong.
std::string take_host_pcrs(const toml::node &node, PcrSelection &value) {
    const auto given = node.value_exact<std::string>();
    const bool bare = given && !given->empty() && given->find(':') == std::string::npos;
    const auto selection = PcrSelection::parse(bare ? std::string(kDefaultBank) + *given : given.value_or(":"));
    if (!selection)
        return fmt::format("must be PCRs such as \"0-7\" or \"sha256:0,4\", or \"\"{}",
                           given ? fmt::format(", not \"{}\"", *given) : "");
    for (const unsigned pcr : selection->numbers())
        if (pcr > kLastHostPcr)
            return fmt::format("must be of the PCRs 0 to {}, not {}: no guest can reset those", kLastHostPcr, pcr);
    value = *selection;
    return {};
}

std::string take_pcr_banks(const toml::node &node, PcrBanks &value) {
    constexpr auto kExpected = "must be PCR banks such as [\"sha256\", \"sha384\"]";
    const toml::array *const names = node.as_array();
    if (names == nullptr || names->empty()) return kExpected;
    value = {};
    for (const toml::node &name : *names)
        if (const auto added = value.add(name.value_exact<std::string>().value_or("")); !added)
            return fmt::format("{}: {}", kExpected, added.error().text);
    return {};
}

std::string take_algorithms(const toml::node &node, std::string &value) {
    if (!take(node, value) || !may_be_algorithms(value))
        return "must be algorithms as libtpms names them, such as \"rsa,rsa-min-size=2048,sha256\", or \"\"";
    if (!value.empty() && !kAlgorithmsCanBeChosen)
        return "needs libtpms 0.10, and this xen-vtpm was built with an older one: remove it";
    return {};
}

std::string apply_profile(TpmProfile &profile, std::string_view key, const toml::node &value) {
    if (key == "pcr_banks") return take_pcr_banks(value, profile.pcr_banks);
    if (key == "algorithms") return take_algorithms(value, profile.algorithms);
    return "is unknown";
}

// Empty: taken. Otherwise what is wrong.
std::string apply(Config &config, std::string_view key, const toml::node &value) {
    const auto expect = [](bool taken, const char *expected) {
        return taken ? std::string() : fmt::format("must be {}", expected);
    };
    if (key == "sealing") return expect(take(value, config.sealing), "\"tpm\" or \"file\"");
    if (key == "tpm") return expect(take(value, config.tpm), "a device's name such as \"MSFT0101:00\", or \"\"");
    if (key == "tcti") return expect(take(value, config.tcti), "a string such as \"device:/dev/tpmrm0\", or \"\"");
    if (key == "seal_pcrs")
        return expect(take(value, config.seal_pcrs), "a PCR selection such as \"sha256:7\", or \"\"");
    if (key == "host_pcrs") return take_host_pcrs(value, config.host_pcrs);
    if (key == "ek_certificates") return expect(take(value, config.ek_certificates), "true or false");
    if (key == "guest_attestation") return expect(take(value, config.guest_attestation), "true or false");
    if (key == "auto_create") return expect(take(value, config.auto_create), "true or false");
    if (key == "default_tpm") return expect(take(value, config.default_tpm), "\"2.0\" or \"1.2\"");
    if (key == "profile") return "must be a table: [profile]";
    if (key == "state_directory") return expect(take(value, config.state_directory), "a path");
    if (key == "socket") return expect(take(value, config.socket), "a path");
    return "is unknown";
}

tl::unexpected<Error> wrong_key(const std::string &path, const toml::key &key, std::string_view table,
                                std::string_view wrong) {
    return fail(ErrorCode::kInvalid, "{}:{}: '{}{}' {}", path, key.source().begin.line, table, key.str(), wrong);
}

Result<> apply_profile(TpmProfile &profile, const toml::table &table, const std::string &path) {
    for (const auto &[key, value] : table) {
        const std::string wrong = apply_profile(profile, key.str(), value);
        if (!wrong.empty()) return wrong_key(path, key, "profile.", wrong);
    }
    return {};
}

Result<Config> from_table(const toml::table &table, const std::string &path) {
    Config config;
    VTPM_ASSIGN(config.seal_pcrs, PcrSelection::parse(kDefaultPcrs));
    for (const auto &[key, value] : table) {
        if (const toml::table *const profile = value.as_table(); profile != nullptr && key == "profile") {
            VTPM_TRY(apply_profile(config.profile, *profile, path));
            continue;
        }
        const std::string wrong = apply(config, key.str(), value);
        if (!wrong.empty()) return wrong_key(path, key, "", wrong);
    }
    if (!config.tpm.empty() && !config.tcti.empty())
        return fail(ErrorCode::kInvalid, "{}: 'tpm' and 'tcti' both say which hardware TPM it is: remove one", path);
    if (config.sealing == Sealing::kFile && !config.host_pcrs.empty())
        return fail(ErrorCode::kInvalid,
                    "{}: 'host_pcrs' needs a hardware TPM, and sealing = \"file\" uses none: remove it, or choose "
                    "sealing = \"tpm\"",
                    path);
    return config;
}

}  // namespace

Result<Config> parse_config(std::string_view text, const std::string &path) {
    try {
        return from_table(toml::parse(text), path);
    } catch (const toml::parse_error &error) {  // toml++ is built with exceptions on Debian
        return fail(ErrorCode::kInvalid, "{}:{}: {}", path, error.source().begin.line, error.description());
    }
}

Result<Config> load_config(const std::string &path) {
    std::ifstream file(path);
    if (!file) return fail_errno("{}", path);
    std::ostringstream text;
    text << file.rdbuf();
    if (file.bad()) return fail_errno("{}", path);
    return parse_config(text.str(), path);
}

}  // namespace vtpm
