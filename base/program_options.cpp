// SPDX-License-Identifier: Apache-2.0
#include "base/program_options.hpp"

#include <CLI/CLI.hpp>

namespace vtpm {

std::optional<int> read_command_line(const Program &program, int argc, char **argv) {
    CLI::App app(program.description, program.name);
    for (const ProgramOption &option : program.options) {
        if (auto *const *flag = std::get_if<bool *>(&option.value))
            app.add_flag(option.name, **flag, option.help);
        else
            app.add_option(option.name, *std::get<std::string *>(option.value), option.help)->capture_default_str();
    }
    app.set_version_flag("--version", program.version);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError &error) {
        return app.exit(error);
    }
    return std::nullopt;
}

}  // namespace vtpm
