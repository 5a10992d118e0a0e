// SPDX-License-Identifier: Apache-2.0
// A control group (cgroups(7), version 2) for each engine, below the scope that systemd has delegated to its zygote:
// what an engine takes, it takes from its own guest's share.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace vtpm {

// Of an engine; it needs about one.
constexpr std::uint64_t kEngineMemory = 32ULL << 20;

class EngineGroups {
public:
    // Of this zygote's engines. Fails where the zygote has no scope of its own: without systemd, or in a test.
    static Result<EngineGroups> of(pid_t zygote);

    // A group with its limits; its cgroup.procs, by which a process enters it.
    [[nodiscard]] Result<UniqueFd> make(std::uint32_t engine) const;
    // So many engines its scope lets run, beside the zygote.
    [[nodiscard]] std::size_t most() const;
    // Of an engine that has ended: was it ended for want of memory?
    [[nodiscard]] bool remove(std::uint32_t engine) const;

private:
    explicit EngineGroups(std::string scope) : scope_(std::move(scope)) {}
    [[nodiscard]] std::string directory(std::uint32_t engine) const;

    std::string scope_;
    std::set<std::string_view> controllers_{};  // that this kernel has for them
};

}  // namespace vtpm
