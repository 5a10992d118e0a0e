// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>
#include <sys/types.h>

#include <fstream>
#include <map>
#include <string>

namespace vtpm {

// The lines "Name:\tvalue" of proc(5)'s /proc/PID/status; none if there is no such process.
inline std::map<std::string, std::string> process_status(pid_t pid) {
    std::map<std::string, std::string> lines;
    std::ifstream file(fmt::format("/proc/{}/status", pid));
    for (std::string line; std::getline(file, line);) {
        const auto colon = line.find(":\t");
        if (colon != std::string::npos) lines[line.substr(0, colon)] = line.substr(colon + 2);
    }
    return lines;
}

}  // namespace vtpm
