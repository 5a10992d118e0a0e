// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace vtpm {

// While this lives, what this process says on standard error goes to `fd`, and so does what those say that it starts
// meanwhile.
class StandardErrorTo {
public:
    explicit StandardErrorTo(const UniqueFd &fd) : kept_(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) {
        require(kept_ && ::dup2(fd.get(), STDERR_FILENO) == STDERR_FILENO, "standard error is replaced");
    }
    StandardErrorTo(const StandardErrorTo &) = delete;
    StandardErrorTo &operator=(const StandardErrorTo &) = delete;
    ~StandardErrorTo() { (void)::dup2(kept_.get(), STDERR_FILENO); }

private:
    UniqueFd kept_;
};

}  // namespace vtpm
