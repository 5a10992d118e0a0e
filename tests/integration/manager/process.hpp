// SPDX-License-Identifier: Apache-2.0
// Child processes of a test: started with what they need, ended by their pid, never outliving the test.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/unique_fd.hpp"

struct Launch {
    std::vector<std::string> command;
    std::vector<std::pair<std::string, std::string>> environment;  // added to ours
    std::vector<int> inherited;                                    // descriptors that the child gets, by number
    int out = -1;                                                  // its standard output, -1: ours
    int err = -1;                                                  // its standard error, -1: ours
    int in = -1;                                                   // its standard input, -1: ours
};

class Process {
public:
    explicit Process(const Launch &launch);
    Process(Process &&other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
    Process &operator=(Process &&) = delete;
    Process(const Process &) = delete;
    Process &operator=(const Process &) = delete;
    ~Process();

    // Sends `signal` and waits. The wait(2) status.
    int end(int signal);
    int wait();
    [[nodiscard]] pid_t pid() const { return pid_; }

private:
    pid_t pid_;
};

struct Output {
    int status;  // exit status, -1 if it was killed
    std::string out;
    std::string err;
};

// Runs `launch` to its end; without a standard input of its own it has an empty one.
Output run(Launch launch);

// A file in memory, at its beginning: as a shell's `<` gives it.
vtpm::UniqueFd file_with(std::string_view content);
