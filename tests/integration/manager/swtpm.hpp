// SPDX-License-Identifier: Apache-2.0
// A real software TPM 2.0 in the place of the machine's hardware TPM, without a resource manager.
#pragma once

#include <string>

#include "base/unique_fd.hpp"
#include "process.hpp"

class Swtpm {
public:
    // `directory`: of its state, and of its socket. The same directory is the same TPM, power cycled.
    explicit Swtpm(const std::string &directory);

    [[nodiscard]] pid_t pid() const { return process_.pid(); }
    [[nodiscard]] const std::string &path() const { return path_; }
    // For tss2-tctildr.
    [[nodiscard]] std::string tcti() const { return "swtpm:path=" + path_; }

private:
    std::string path_;
    // Bound and listening before swtpm starts: who connects early waits in the queue.
    vtpm::UniqueFd data_;
    vtpm::UniqueFd control_;
    Process process_;
};
