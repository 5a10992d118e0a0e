// SPDX-License-Identifier: Apache-2.0
// What Linux tells of a process, and of the machine: proc(5).
#pragma once

#include <fmt/format.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/integration/process_status.hpp"

namespace vtpm {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point began) {
    return std::chrono::duration<double>(Clock::now() - began).count();
}

// That it takes.
template <typename Work>
double seconds(const Work &work) {
    const auto began = Clock::now();
    work();
    return seconds_since(began);
}

// A line of /proc/PID/smaps_rollup, summed over the processes, in KiB. "Pss": a page that n processes share counts 1/n
// in each, whoever they are. "Anonymous": what is backed by no file, and so what a leak adds to.
inline std::uint64_t memory_kib(const std::string &kind, const std::vector<pid_t> &pids) {
    std::uint64_t sum = 0;
    for (const pid_t pid : pids) {
        std::ifstream file(fmt::format("/proc/{}/smaps_rollup", pid));
        std::string line;
        while (std::getline(file, line) && !line.starts_with(kind + ":")) {}
        if (!file) throw std::runtime_error(fmt::format("no smaps_rollup of process {}", pid));
        sum += std::stoul(line.substr(kind.size() + 1));
    }
    return sum;
}

// How often it went to sleep, and so was woken.
inline std::uint64_t sleeps(const std::vector<pid_t> &pids) {
    std::uint64_t sum = 0;
    for (const pid_t pid : pids) sum += std::stoul(process_status(pid).at("voluntary_ctxt_switches"));
    return sum;
}

// Processor time of a process, user and system.
inline double cpu_seconds(const std::vector<pid_t> &pids) {
    std::uint64_t ticks = 0;
    for (const pid_t pid : pids) {
        std::ifstream file(fmt::format("/proc/{}/stat", pid));
        std::string text;
        std::getline(file, text);
        std::istringstream fields(text.substr(text.rfind(')') + 2));  // from field 3; utime and stime are 14 and 15
        std::string skipped;
        for (int field = 3; field < 14; ++field) fields >> skipped;
        std::uint64_t user = 0;
        std::uint64_t system = 0;
        fields >> user >> system;
        ticks += user + system;
    }
    return static_cast<double>(ticks) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

// Processor time of the whole machine, and how much of it nobody used, waiting for the disk or not.
struct MachineTime {
    double all = 0;
    double idle = 0;
};
inline MachineTime machine_time() {
    std::ifstream file("/proc/stat");
    std::string cpu;
    file >> cpu;
    MachineTime time;
    double ticks = 0;
    for (int field = 0; field < 8 && file >> ticks; ++field) {  // user nice system idle iowait irq softirq steal
        time.all += ticks;
        if (field == 3 || field == 4) time.idle += ticks;
    }
    return time;
}

// A size that host.py gives.
inline std::size_t size_of(const char *name, std::size_t otherwise) {
    const char *text = std::getenv(name);
    return text == nullptr ? otherwise : std::strtoul(text, nullptr, 10);
}

// The last line of what a measurement prints.
inline void print(const nlohmann::json &figures) { std::printf("\n%s\n", figures.dump().c_str()); }

}  // namespace vtpm
