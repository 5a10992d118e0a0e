// SPDX-License-Identifier: Apache-2.0
#include "manager/config.hpp"

#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <numeric>
#include <sstream>
#include <utility>
#include <vector>

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
bool take(const toml::node &node, LaunchPolicy &value) {
    const auto policy = parse_launch_policy(node.value_exact<std::string_view>().value_or(""));
    if (policy) value = *policy;
    return policy.has_value();
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

std::string expect(bool taken, const char *expected) {
    return taken ? std::string() : fmt::format("must be {}", expected);
}

// Takes a key's value. Empty: taken. Otherwise what is wrong.
template <typename Target>
struct ConfigKey {
    std::string_view name;
    std::string (*take)(const toml::node &, Target &);
};

constexpr std::array<ConfigKey<TpmProfile>, 2> kProfileKeys{{
    {"pcr_banks", [](const toml::node &node, TpmProfile &to) { return take_pcr_banks(node, to.pcr_banks); }},
    {"algorithms", [](const toml::node &node, TpmProfile &to) { return take_algorithms(node, to.algorithms); }},
}};

constexpr std::array<ConfigKey<Config>, 13> kConfigKeys{{
    {"sealing",
     [](const toml::node &node, Config &to) { return expect(take(node, to.sealing), "\"tpm\" or \"file\""); }},
    {"tpm", [](const toml::node &node,
               Config &to) { return expect(take(node, to.tpm), "a device's name such as \"MSFT0101:00\", or \"\""); }},
    {"tcti",
     [](const toml::node &node, Config &to) {
         return expect(take(node, to.tcti), "a string such as \"device:/dev/tpmrm0\", or \"\"");
     }},
    {"seal_pcrs",
     [](const toml::node &node, Config &to) {
         return expect(take(node, to.seal_pcrs), "a PCR selection such as \"sha256:7\", or \"\"");
     }},
    {"host_pcrs", [](const toml::node &node, Config &to) { return take_host_pcrs(node, to.host_pcrs); }},
    {"ek_certificates",
     [](const toml::node &node, Config &to) { return expect(take(node, to.ek_certificates), "true or false"); }},
    {"guest_attestation",
     [](const toml::node &node, Config &to) { return expect(take(node, to.guest_attestation), "true or false"); }},
    {"auto_create",
     [](const toml::node &node, Config &to) { return expect(take(node, to.auto_create), "true or false"); }},
    {"default_tpm",
     [](const toml::node &node, Config &to) { return expect(take(node, to.default_tpm), "\"2.0\" or \"1.2\""); }},
    {"launch",
     [](const toml::node &node, Config &to) {
         return expect(take(node, to.launch), "\"off\", \"measure\", \"require\" or \"require-approved\"");
     }},
    {"state_directory",
     [](const toml::node &node, Config &to) { return expect(take(node, to.state_directory), "a path"); }},
    {"socket", [](const toml::node &node, Config &to) { return expect(take(node, to.socket), "a path"); }},
    {"profile", [](const toml::node &node, Config &) { return expect(node.is_table(), "a table: [profile]"); }},
}};

// Insertions, removals and changes of a letter between the two (Levenshtein's distance).
std::size_t distance(std::string_view one, std::string_view other) {
    std::vector<std::size_t> row(other.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < one.size(); ++i) {
        std::size_t diagonal = std::exchange(row[0], i + 1);
        for (std::size_t j = 0; j < other.size(); ++j) {
            const std::size_t changed = diagonal + (one[i] == other[j] ? 0 : 1);
            diagonal = std::exchange(row[j + 1], std::min({changed, row[j] + 1, row[j + 1] + 1}));
        }
    }
    return row.back();
}

template <typename Keys>
std::string unknown(std::string_view name, const Keys &keys) {
    const auto nearest = std::ranges::min_element(keys, {}, [&](const auto &key) { return distance(name, key.name); });
    const bool near = distance(name, nearest->name) <= 1 + nearest->name.size() / 3;
    return near ? fmt::format("is unknown: is '{}' meant?", nearest->name) : std::string("is unknown");
}

tl::unexpected<Error> wrong_key(const std::string &path, const toml::key &key, std::string_view table,
                                std::string_view wrong) {
    return fail(ErrorCode::kInvalid, "{}:{}: '{}{}' {}", path, key.source().begin.line, table, key.str(), wrong);
}

template <typename Target, typename Keys>
Result<> apply(const toml::table &table, std::string_view prefix, const std::string &path, const Keys &keys,
               Target &target) {
    for (const auto &[name, value] : table) {
        const auto key = std::ranges::find(keys, name.str(), &ConfigKey<Target>::name);
        const std::string wrong = key == keys.end() ? unknown(name.str(), keys) : key->take(value, target);
        if (!wrong.empty()) return wrong_key(path, name, prefix, wrong);
    }
    return {};
}

Result<Config> from_table(const toml::table &table, const std::string &path) {
    Config config;
    VTPM_ASSIGN(config.seal_pcrs, PcrSelection::parse(kDefaultPcrs));
    VTPM_TRY(apply(table, "", path, kConfigKeys, config));
    if (const toml::table *const profile = table["profile"].as_table())
        VTPM_TRY(apply(*profile, "profile.", path, kProfileKeys, config.profile));
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
