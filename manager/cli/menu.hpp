// SPDX-License-Identifier: Apache-2.0
// The tree of commands. Each has a struct of its options, an action that answers a JSON document, and that as text.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>

#include "manager/cli/commands.hpp"

namespace vtpm::cli {

using Text = std::function<std::string(const Json &)>;

// What the command line chose.
struct Chosen {
    bool json = false;
    std::function<Result<Json>()> act;
    Text text;
};

class Menu {
public:
    Menu(CLI::App &app, Chosen &chosen) : app_(&app), chosen_(&chosen) {}

    // Commands below a word that is none itself.
    [[nodiscard]] Menu below(const char *word, const char *help) const;
    // Commands below one that is a command itself.
    [[nodiscard]] Menu at(CLI::App &command) const { return {command, *chosen_}; }

    // For a command that prints more than one answer. It is known when the command acts.
    [[nodiscard]] const bool &json() const { return chosen_->json; }

    template <typename Options>
    struct Added {
        CLI::App &command;
        Options &options;
    };
    // Needs no daemon.
    template <typename Options>
    Added<Options> add(const char *word, const char *help, Result<Json> (*action)(const Options &),
                       const Text &text) const {
        const auto options = std::make_shared<Options>();
        return {add_action(
                    word, help, [action, options] { return action(*options); }, text),
                *options};
    }
    template <typename Options>
    Added<Options> add(const char *word, const char *help, Result<Json> (*action)(Daemons &, const Options &),
                       const Text &text) const {
        const auto options = std::make_shared<Options>();
        const auto ask = [action, options](Daemons &daemons) { return action(daemons, *options); };
        return {add_question(word, help, ask, text), *options};
    }
    // What it prints depends on them, too.
    template <typename Options>
    Added<Options> add(const char *word, const char *help, Result<Json> (*action)(Daemons &, const Options &),
                       std::string (*text)(const Json &, const Options &)) const {
        const auto options = std::make_shared<Options>();
        const auto ask = [action, options](Daemons &daemons) { return action(daemons, *options); };
        return {add_question(word, help, ask, [text, options](const Json &json) { return text(json, *options); }),
                *options};
    }
    // Without options.
    CLI::App &add(const char *word, const char *help, Result<Json> (*action)(Daemons &), Text text) const {
        return add_question(word, help, action, std::move(text));
    }

private:
    CLI::App &add_action(const char *word, const char *help, std::function<Result<Json>()> action, Text text) const;
    CLI::App &add_question(const char *word, const char *help, std::function<Result<Json>(Daemons &)> ask,
                           Text text) const;

    CLI::App *app_;
    Chosen *chosen_;
};

// For what destroys.
inline void add_yes(CLI::App &command, bool &yes) {
    command.add_flag("--yes", yes, "Do not ask; required where no terminal can be asked");
}

}  // namespace vtpm::cli
