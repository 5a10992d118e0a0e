// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/old_words.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

namespace vtpm::cli {
namespace {

using Words = std::vector<std::string>;

// A flag without a name now is left out; two words are two arguments.
struct OldOption {
    std::string_view was;
    std::string_view is;
};
struct OldCommand {
    Words was;
    Words is;
    std::vector<OldOption> options{};
    std::string_view only_with{};  // the command had this flag, which went into its words
};

// What did not ask before does not ask now.
const std::vector<OldCommand> &old_commands() {
    static const std::vector<OldCommand> commands{
        {{"create"}, {"create"}, {{"--tpm", "--tpm-version"}}},
        {{"destroy"}, {"delete", "--yes"}},
        {{"group", "delete"}, {"group", "delete"}, {{"--lost", "--with-vtpms --yes"}}},
        {{"group", "renew"}, {"group", "revoke-approvals"}},
        {{"group", "reseal"}, {"group", "seal"}},
        {{"group", "export-recovery"}, {"group", "recovery-key"}, {{"--replace", "--rotate"}}},
        {{"group", "check-recovery"}, {"group", "check-recovery"}, {{"--key", "--recovery-key"}}},
        {{"group", "recover"}, {"group", "recover"}, {{"--key", "--recovery-key"}}},
        {{"recover"}, {"group", "accept-rollback"}, {}, "--accept-rollback"},
        {{"recover"}, {"store", "reset", "--yes"}, {}, "--new-store"},
        {{"import"}, {"import"}, {{"--original-is-gone", "--confirm-original-destroyed"}}},
        {{"ca", "export"}, {"ca", "csr"}, {}, "--request"},
        {{"ca", "export"}, {"ca", "certificate"}},
        {{"ca", "import-signed"}, {"ca", "install-certificate"}},
        {{"policy", "revoke"}, {"policy", "remove"}},
        {{"policy", "sign"}, {"policy", "sign"}, {{"--values", "--measurements"}}},
        {{"policy", "predict"}, {"policy", "predict"}, {}, "--next"},
        {{"attest"}, {"attestation", "create"}},
        {{"verify-attestation"},
         {"attestation", "verify"},
         {{"--vtpm", "--uuid"}, {"--values", "--measurements"}, {"--endorsement-key", "--write-ek"}}},
        {{"host", "challenge"}, {"host", "challenge"}, {{"--makers", "--tpm-ca"}, {"--answer", "--write-answer"}}},
        {{"audit"}, {"audit", "verify"}, {}, "--verify"},
    };
    return commands;
}

// Of "--option=value" and "--option": the name.
std::string_view name_of(std::string_view argument) { return argument.substr(0, argument.find('=')); }

bool is_option(std::string_view argument) { return argument.starts_with('-'); }

// Where the command's words stand: before them there are flags only. Nothing: these are not its words.
std::optional<std::vector<std::size_t>> find_words(const Words &arguments, const Words &words) {
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < arguments.size() && places.size() < words.size(); ++i) {
        if (is_option(arguments[i])) continue;
        if (arguments[i] != words[places.size()]) return std::nullopt;
        places.push_back(i);
    }
    if (places.size() < words.size()) return std::nullopt;
    return places;
}

void append_words(Words &to, std::string_view words) {
    while (!words.empty()) {
        const std::size_t end = std::min(words.find(' '), words.size());
        to.emplace_back(words.substr(0, end));
        words.remove_prefix(std::min(end + 1, words.size()));
    }
}

Words rewritten(const Words &arguments, const OldCommand &command, const std::vector<std::size_t> &places) {
    Words result = command.is;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        if (std::ranges::find(places, i) != places.end()) continue;
        const std::string_view name = name_of(arguments[i]);
        const std::string_view value = std::string_view(arguments[i]).substr(name.size());
        const auto old = std::ranges::find(command.options, name, &OldOption::was);
        if (old != command.options.end()) {
            append_words(result, old->is);
            result.back() += value;
        } else if (!command.only_with.empty() && name == command.only_with) {
            if (!value.empty()) result.emplace_back(value.substr(1));
        } else {
            result.push_back(arguments[i]);
        }
    }
    return result;
}

}  // namespace

std::vector<std::string> with_present_words(std::vector<std::string> arguments) {
    for (const OldCommand &command : old_commands()) {
        const auto places = find_words(arguments, command.was);
        if (!places) continue;
        if (!command.only_with.empty() && std::ranges::find(arguments, command.only_with, name_of) == arguments.end())
            continue;
        return rewritten(arguments, command, *places);
    }
    return arguments;
}

}  // namespace vtpm::cli
