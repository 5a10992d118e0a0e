// SPDX-License-Identifier: Apache-2.0
// What the daemon needs of systemd so that its engines outlive it: sd_notify(3) FDSTORE=1, a scope for them, and to
// know a restart from a stop.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace vtpm {

struct KeptDescriptor {
    std::string name;
    UniqueFd fd;
};

class ServiceManager {
public:
    virtual ~ServiceManager() = default;
    // A duplicate of `fd` stays for the daemon's next process until it is forgotten, or the service is stopped for
    // good.
    virtual void keep(const std::string &name, int fd) = 0;
    virtual void forget(const std::string &name) = 0;
    // What was kept for this process. It is still kept.
    virtual std::vector<KeptDescriptor> kept() = 0;
    // Moves a process, with the children that it will have, to a scope of their own: they outlive the service, and are
    // stopped before the manager is. Its name is scope_name().
    virtual Result<> give_scope(pid_t process) = 0;
    // This process has been told to end: will there be another one?
    virtual bool is_restarting() = 0;
};

// The scope of a zygote and its engines.
// TasksMax of a zygote's scope: one for the zygote, and one for each engine.
constexpr std::uint64_t kScopeTasks = 8192;

std::string scope_name(pid_t zygote);

// Without systemd nothing is kept, and every end is a stop.
std::unique_ptr<ServiceManager> make_service_manager();

}  // namespace vtpm
