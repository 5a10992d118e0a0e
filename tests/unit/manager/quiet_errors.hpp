// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include "base/unique_fd.hpp"

// What the manager tells the journal goes nowhere while this lives: for tests that make it say the same ten thousand
// times.
class QuietErrors {
public:
    QuietErrors() : kept_(::dup(STDERR_FILENO)) {
        const vtpm::UniqueFd nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
        (void)::dup2(nowhere.get(), STDERR_FILENO);
    }
    QuietErrors(const QuietErrors &) = delete;
    QuietErrors &operator=(const QuietErrors &) = delete;
    ~QuietErrors() { (void)::dup2(kept_.get(), STDERR_FILENO); }

private:
    vtpm::UniqueFd kept_;
};
