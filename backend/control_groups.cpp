// SPDX-License-Identifier: Apache-2.0
#include "backend/control_groups.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string_view>
#include <vector>

#include "backend/service_manager.hpp"
#include "base/log.hpp"

namespace vtpm {
namespace {

constexpr std::string_view kRoot = "/sys/fs/cgroup";
// A group that has groups with limits below it can have no processes itself: the zygote has one beside its engines'.
constexpr std::string_view kZygotesOwn = "/zygote";

Result<> make_directory(const std::string &path) {
    if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return fail_errno("make {}", path);
    return {};
}

// One write(2), as the kernel wants it.
Result<> set(const std::string &path, std::string_view value) {
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file || ::write(file.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size()))
        return fail_errno("write '{}' to {}", value, path);
    return {};
}

Result<UniqueFd> limit(const std::string &group, const std::set<std::string_view> &controllers) {
    if (controllers.contains("memory")) VTPM_TRY(set(group + "/memory.max", fmt::to_string(kEngineMemory)));
    if (controllers.contains("pids")) VTPM_TRY(set(group + "/pids.max", "1"));
    UniqueFd processes(::open((group + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
    if (!processes) return fail_errno("open {}/cgroup.procs", group);
    return processes;
}

// As cgroups(7) has it in /proc/PID/cgroup: "0::/path"; empty if this is not version 2.
std::string group_of(pid_t process) {
    std::ifstream file(fmt::format("/proc/{}/cgroup", process));
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("0::/")) return line.substr(3);
    return {};
}

}  // namespace

Result<EngineGroups> EngineGroups::of(pid_t zygote) {
    std::string group = group_of(zygote);
    if (group.ends_with(kZygotesOwn)) group.resize(group.size() - kZygotesOwn.size());
    if (!group.ends_with("/" + scope_name(zygote)))
        return fail(ErrorCode::kUnavailable, "their parent process is not in {}", scope_name(zygote));
    const std::string scope = fmt::format("{}{}", kRoot, group);
    VTPM_TRY(make_directory(fmt::format("{}{}", scope, kZygotesOwn)));
    VTPM_TRY(set(fmt::format("{}{}/cgroup.procs", scope, kZygotesOwn), fmt::to_string(zygote)));
    EngineGroups groups(scope);
    std::vector<std::string_view> missing;
    // One by one: a kernel without one of them has the others.
    for (const std::string_view controller : {"memory", "pids", "cpu"}) {
        if (set(scope + "/cgroup.subtree_control", fmt::format("+{}", controller)))
            groups.controllers_.insert(controller);
        else
            missing.push_back(controller);
    }
    if (!missing.empty())
        log::warning("engines have no limits by the cgroup controllers that are not there: {}",
                     fmt::join(missing, ", "));
    return groups;
}

std::string EngineGroups::directory(std::uint32_t engine) const { return fmt::format("{}/engine-{}", scope_, engine); }

// All have the same cpu.weight, the kernel's default: one that never rests has its share, and not another's.
Result<UniqueFd> EngineGroups::make(std::uint32_t engine) const {
    const std::string group = directory(engine);
    VTPM_TRY(make_directory(group));
    auto processes = limit(group, controllers_);
    if (!processes) (void)::rmdir(group.c_str());
    return processes;
}

// "max" is no number: there is no limit.
std::size_t EngineGroups::most() const {
    std::ifstream file(scope_ + "/pids.max");
    std::size_t tasks = 0;
    return file >> tasks ? tasks - std::min<std::size_t>(tasks, 1) : std::numeric_limits<std::size_t>::max();
}

bool EngineGroups::remove(std::uint32_t engine) const {
    const std::string group = directory(engine);
    bool ended = false;
    std::ifstream events(group + "/memory.events");
    for (std::string line; std::getline(events, line);)
        ended = ended || (line.starts_with("oom_kill ") && line != "oom_kill 0");
    // What stays goes with the scope.
    (void)::rmdir(group.c_str());
    return ended;
}

}  // namespace vtpm
