// SPDX-License-Identifier: Apache-2.0
// What the daemon needs of systemd so that its engines outlive it: sd_notify(3) FDSTORE=1, a scope for them, and to
// know a restart from a stop.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.hpp"
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
    // Something that it was asked for, and has not answered yet. Destroying it only means that nobody waits for that.
    class Request {
    public:
        virtual ~Request() = default;
    };
    // Called from the loop: within limits::kServiceManager, since a daemon that waited would serve nobody meanwhile.
    using Done = std::function<void(const Result<> &)>;

    // A duplicate of `fd` stays for the daemon's next process until it is forgotten, or the service is stopped for
    // good.
    virtual std::unique_ptr<Request> keep(EventLoop &loop, const std::string &name, int fd, Done done) = 0;
    virtual void forget(const std::string &name) = 0;
    // What was kept for this process. It is still kept.
    virtual std::vector<KeptDescriptor> kept() = 0;
    // Moves a process, with the children that it will have, to a scope of their own: they outlive the service, and are
    // stopped before the manager is. Its name is scope_name().
    virtual std::unique_ptr<Request> give_scope(EventLoop &loop, pid_t process, Done done) = 0;
    // This process has been told to end: will there be another one?
    virtual bool is_restarting() = 0;
};

// The scope of a zygote and its engines.
// TasksMax of a zygote's scope: one for the zygote, and one for each engine.
constexpr std::uint64_t kScopeTasks = 8192;

std::string scope_name(pid_t zygote);

// One that answers from `loop`, with `result`, what it was asked.
std::unique_ptr<ServiceManager::Request> answer_soon(EventLoop &loop, const Result<> &result,
                                                     ServiceManager::Done done);

// systemd, if it has started this process. Without it nothing is kept, and every end is a stop.
std::unique_ptr<ServiceManager> make_service_manager();

}  // namespace vtpm
