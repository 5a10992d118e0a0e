// SPDX-License-Identifier: Apache-2.0
#include "manager/config.hpp"

#include <toml++/toml.h>

#include <fstream>
#include <sstream>

namespace vtpm {
namespace {

constexpr std::string_view kDefaultPcrs = "sha256:7";

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
std::string apply(Config &config, std::string_view key, const toml::node &value) {
    const auto expect = [](bool taken, const char *expected) {
        return taken ? std::string() : fmt::format("must be {}", expected);
    };
    if (key == "sealing") return expect(take(value, config.sealing), "\"tpm\" or \"file\"");
    if (key == "tcti") return expect(take(value, config.tcti), "a string such as \"device:/dev/tpmrm0\"");
    if (key == "seal_pcrs")
        return expect(take(value, config.seal_pcrs), "a PCR selection such as \"sha256:7\", or \"\"");
    if (key == "ek_certificates") return expect(take(value, config.ek_certificates), "true or false");
    if (key == "guest_attestation") return expect(take(value, config.guest_attestation), "true or false");
    if (key == "auto_create") return expect(take(value, config.auto_create), "true or false");
    if (key == "default_tpm") return expect(take(value, config.default_tpm), "\"2.0\" or \"1.2\"");
    if (key == "state_directory") return expect(take(value, config.state_directory), "a path");
    if (key == "socket") return expect(take(value, config.socket), "a path");
    return "is unknown";
}

Result<Config> from_table(const toml::table &table, const std::string &path) {
    Config config;
    VTPM_ASSIGN(config.seal_pcrs, PcrSelection::parse(kDefaultPcrs));
    for (const auto &[key, value] : table) {
        const std::string wrong = apply(config, key.str(), value);
        if (!wrong.empty())
            return fail(ErrorCode::kInvalid, "{}:{}: '{}' {}", path, key.source().begin.line, key.str(), wrong);
    }
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
