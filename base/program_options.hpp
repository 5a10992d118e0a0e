// SPDX-License-Identifier: Apache-2.0
// A daemon's command line. CLI11 is header-only and takes longer to compile than any of our sources: only
// program_options.cpp includes it for the daemons.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace vtpm {

struct ProgramOption {
    std::string name;                           // "--config"
    std::variant<std::string *, bool *> value;  // its default, and what the command line says instead; a flag
    std::string help;
};

struct Program {
    std::string description;
    std::string name;     // empty: as it was called
    std::string version;  // what --version prints
    std::vector<ProgramOption> options;
};

// The exit status, if the program is to end: after --help and --version, or because the command line is wrong.
std::optional<int> read_command_line(const Program &program, int argc, char **argv);

}  // namespace vtpm
