// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/menu.hpp"

#include <cstdio>

namespace vtpm::cli {
namespace {

// The manager does it, whether somebody waits or not.
void tell_that_we_wait(std::chrono::seconds since) {
    std::fprintf(stderr,
                 "xen-vtpm: xen-vtpm-managerd has not done it yet after %lld s: it does one thing after the other with "
                 "the hardware TPM (xen-vtpm status tells whether that answers)\n",
                 static_cast<long long>(since.count()));
}

}  // namespace

Menu Menu::below(const char *word, const char *help) const {
    CLI::App &app = *app_->add_subcommand(word, help);
    app.require_subcommand(1);
    app.fallthrough();  // --json may stand at the end
    return {app, *chosen_};
}

// A command that has others below it acts only without them: CLI11 calls back of both.
CLI::App &Menu::add_action(const char *word, const char *help, std::function<Result<Json>()> action, Text text) const {
    CLI::App *command = app_->add_subcommand(word, help);
    command->fallthrough();
    command->callback([chosen = chosen_, command, action = std::move(action), text = std::move(text)] {
        if (!command->get_subcommands().empty()) return;
        chosen->act = action;
        chosen->text = text;
    });
    return *command;
}

CLI::App &Menu::add_question(const char *word, const char *help, std::function<Result<Json>(Daemons &)> ask,
                             Text text) const {
    const auto reach_and_ask = [chosen = chosen_, ask = std::move(ask)]() -> Result<Json> {
        VTPM_ASSIGN(Daemons daemons, Daemons::reach(chosen->json ? nullptr : tell_that_we_wait));
        return ask(daemons);
    };
    return add_action(word, help, reach_and_ask, std::move(text));
}

}  // namespace vtpm::cli
