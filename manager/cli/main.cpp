// SPDX-License-Identifier: Apache-2.0
// xen-vtpm: the administrator's view of this machine's virtual TPMs.
#include <algorithm>
#include <cstdio>

#include "manager/cli/attestation_commands.hpp"
#include "manager/cli/audit_commands.hpp"
#include "manager/cli/ca_commands.hpp"
#include "manager/cli/config_commands.hpp"
#include "manager/cli/exit_status.hpp"
#include "manager/cli/group_commands.hpp"
#include "manager/cli/launch_commands.hpp"
#include "manager/cli/menu.hpp"
#include "manager/cli/meter_commands.hpp"
#include "manager/cli/old_words.hpp"
#include "manager/cli/policy_commands.hpp"
#include "manager/cli/problems.hpp"
#include "manager/cli/store_commands.hpp"
#include "manager/cli/vtpm_commands.hpp"
#include "version.hpp"

namespace vtpm::cli {
namespace {

int report(const Error &error, bool json) {
    if (json) {
        const Json document{{"error", {{"code", error_word(error.code)}, {"text", error.text}}}};
        std::fprintf(stderr, "%s\n", document.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
    } else {
        std::fprintf(stderr, "xen-vtpm: %s\n", error.text.c_str());
    }
    return exit_status(error.code);
}

// What is verified may be false, and a host degraded; scripts want to know.
int success_status(const Json &answer) {
    if (!answer.is_object()) return EXIT_SUCCESS;
    if (!answer.value("verified", true)) return kExitRefused;
    if (!answer.contains("problems")) return EXIT_SUCCESS;
    const std::vector<Problem> problems = problems_of(answer);
    return problems.empty() ? EXIT_SUCCESS : exit_status(problems.front().code);
}

int run(const Chosen &chosen) {
    const auto answer = chosen.act();
    if (!answer) return report(answer.error(), chosen.json);
    std::fputs((chosen.json ? answer->dump(2) + "\n" : chosen.text(*answer)).c_str(), stdout);
    if (std::fflush(stdout) != 0) return kExitFailure;
    return success_status(*answer);
}

// CLI11 wants them from the last to the first.
std::vector<std::string> arguments_of(int argc, char **argv) {
    std::vector<std::string> arguments = with_present_words({argv + std::min(argc, 1), argv + argc});
    std::ranges::reverse(arguments);
    return arguments;
}

}  // namespace
}  // namespace vtpm::cli

int main(int argc, char **argv) {
    using namespace vtpm::cli;
    CLI::App app("Manage the virtual TPMs of this Xen host.", "xen-vtpm");
    Chosen chosen;
    app.add_flag("--json", chosen.json, "Print JSON; errors too, on standard error");
    app.set_version_flag("--version", std::string("xen-vtpm ") + vtpm::kVersion);
    app.require_subcommand(1);
    app.fallthrough();  // --json may stand after the subcommand
    app.footer(
        "Exit status: 0 done, 1 failed, 2 syntax, 3 not found, 4 busy or exists, 5 refused, 6 unavailable, 7 wrong "
        "state.");
    const Menu menu(app, chosen);
    add_vtpm_commands(menu);
    add_meter_commands(menu);
    add_group_commands(menu);
    add_policy_commands(menu);
    add_launch_commands(menu);
    add_ca_commands(menu);
    add_attestation_commands(menu);
    add_store_commands(menu);
    add_audit_commands(menu);
    add_config_commands(menu);
    try {
        app.parse(arguments_of(argc, argv));
    } catch (const CLI::ParseError &error) {
        return app.exit(error) == 0 ? EXIT_SUCCESS : kExitUsage;
    }
    return run(chosen);
}
