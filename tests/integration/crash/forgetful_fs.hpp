// SPDX-License-Identifier: Apache-2.0
// A file system whose power can be cut: what was not made durable by then is lost, or half of it. By FUSE, in a process
// of its own; needs /dev/fuse, and root to mount it.
#pragma once

#include <sys/types.h>

#include <string>

namespace vtpm {

class ForgetfulFs {
public:
    // Mounted at `path`, which is made. One directory without directories in it.
    ForgetfulFs(std::string path, unsigned seed);
    ~ForgetfulFs();
    ForgetfulFs(const ForgetfulFs &) = delete;
    ForgetfulFs &operator=(const ForgetfulFs &) = delete;

    // Between two operations of whoever uses it. From then on what was open fails with EIO. Of each file there is what
    // was there at its last fsync, and of the sectors, the sizes and the names that changed later none, some or all, as
    // chance will have it.
    void cut_power();

private:
    std::string path_;
    pid_t pid_;
};

}  // namespace vtpm
