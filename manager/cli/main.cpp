// SPDX-License-Identifier: Apache-2.0
// xen-vtpm: the administrator's view of this machine's virtual TPMs.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>

#include "manager/cli/commands.hpp"
#include "manager/cli/exit_status.hpp"
#include "manager/cli/text.hpp"
#include "version.hpp"

namespace vtpm::cli {
namespace {

// What the command line chose.
struct Choice {
    bool json = false;
    std::string uuid;
    std::string version;
    std::string group;
    std::string pcrs;
    bool tpm_only = false;
    std::function<Result<Json>(Daemons &)> ask;
    std::string (*text)(const Json &) = nullptr;
};

CLI::App *add_command(CLI::App &app, Choice &choice, const char *name, const char *help,
                      std::function<Result<Json>(Daemons &)> ask, std::string (*text)(const Json &)) {
    CLI::App *sub = app.add_subcommand(name, help);
    sub->callback([&choice, ask = std::move(ask), text] {
        choice.ask = ask;
        choice.text = text;
    });
    return sub;
}

void add_group_commands(CLI::App &app, Choice &choice) {
    CLI::App &group = *app.add_subcommand("group", "Groups: vTPMs whose keys open together");
    group.require_subcommand(1);
    group.fallthrough();
    add_command(group, choice, "list", "All groups", list_groups, list_groups_text);
    const auto with_name = [&](CLI::App *command) {
        command->add_option("NAME", choice.group, "The group")->required();
        return command;
    };
    with_name(add_command(
        group, choice, "show", "One group", [&](Daemons &d) { return show_group(d, choice.group); }, show_group_text));
    CLI::App *creation = with_name(add_command(
        group, choice, "create", "Create a group, and seal its key",
        [&](Daemons &d) { return create_group(d, choice.group, choice.pcrs); }, show_group_text));
    // One of the two: what protects the keys is nobody's default.
    auto *sealed_to = creation->add_option_group("sealed to");
    sealed_to->add_option("--pcrs", choice.pcrs, "PCRs that must be as they are now, such as sha256:0,2,4,7");
    sealed_to->add_flag("--tpm-only", choice.tpm_only, "This TPM, whatever it booted");
    sealed_to->require_option(1);
    with_name(add_command(
        group, choice, "delete", "Delete a group that has no vTPM",
        [&](Daemons &d) { return delete_group(d, choice.group); }, delete_group_text));
}

void add_commands(CLI::App &app, Choice &choice) {
    const auto command = [&](const char *name, const char *help, auto ask, std::string (*text)(const Json &)) {
        return add_command(app, choice, name, help, ask, text);
    };
    command("status", "The manager, what it is sealed to, the backend", status, status_text);
    command("list", "All vTPMs", list, list_text);
    command(
        "show", "One vTPM, and the devices that use it", [&](Daemons &d) { return show(d, choice.uuid); }, show_text)
        ->add_option("UUID", choice.uuid, "The vTPM")
        ->required();
    CLI::App *creation = command(
        "create", "Create a vTPM and print its UUID",
        [&](Daemons &d) { return create(d, choice.uuid, choice.version, choice.group); }, create_text);
    creation->add_option("UUID", choice.uuid, "Its UUID; default: a random one");
    creation->add_option("--tpm", choice.version, "TPM version; default: default_tpm of manager.toml")
        ->check(CLI::IsMember({"2.0", "1.2"}));
    creation->add_option("--group", choice.group, "The group whose key it gets; default: default");
    command(
        "destroy", "Destroy a vTPM with its key and its state, for good",
        [&](Daemons &d) { return destroy(d, choice.uuid); }, destroy_text)
        ->add_option("UUID", choice.uuid, "The vTPM")
        ->required();
}

int report(const Error &error, bool json) {
    if (json) {
        const Json document{{"error", {{"code", error_word(error.code)}, {"text", error.text}}}};
        std::fprintf(stderr, "%s\n", document.dump(2).c_str());
    } else {
        std::fprintf(stderr, "xen-vtpm: %s%s\n", error.text.c_str(), ::geteuid() == 0 ? "" : " (are you root?)");
    }
    return exit_status(error.code);
}

Result<Json> ask(const Choice &choice) {
    VTPM_ASSIGN(Daemons daemons, Daemons::reach());
    return choice.ask(daemons);
}

// A manager that refuses was reached and asked well; scripts still want to know.
int success_status(const Json &answer) {
    const auto manager = answer.is_object() ? answer.find("manager") : answer.end();
    return manager != answer.end() && manager->value("state", "ready") != "ready" ? kExitRefused : EXIT_SUCCESS;
}

int run(const Choice &choice) {
    const auto answer = ask(choice);
    if (!answer) return report(answer.error(), choice.json);
    std::fputs((choice.json ? answer->dump(2) + "\n" : choice.text(*answer)).c_str(), stdout);
    if (std::fflush(stdout) != 0) return kExitFailure;
    return success_status(*answer);
}

}  // namespace
}  // namespace vtpm::cli

int main(int argc, char **argv) {
    CLI::App app("The virtual TPMs of this Xen machine.", "xen-vtpm");
    vtpm::cli::Choice choice;
    app.add_flag("--json", choice.json, "Print JSON; errors too, on standard error");
    app.set_version_flag("--version", std::string("xen-vtpm ") + vtpm::kVersion);
    app.require_subcommand(1);
    app.fallthrough();  // --json may stand after the subcommand
    app.footer("Exit status: 0 done, 1 failed, 2 usage, 3 unknown vTPM, 4 in use, 5 refused, 6 no daemon.");
    vtpm::cli::add_commands(app, choice);
    vtpm::cli::add_group_commands(app, choice);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError &error) {
        return app.exit(error) == 0 ? EXIT_SUCCESS : vtpm::cli::kExitUsage;
    }
    return vtpm::cli::run(choice);
}
