// SPDX-License-Identifier: Apache-2.0
// Keeps descriptors as systemd does; the real one's behaviour is shown by tests/lab.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#include "backend/service_manager.hpp"

namespace vtpm {

class FakeServiceManager final : public ServiceManager {
public:
    void keep(const std::string &name, int fd) override { store[name] = copy(fd); }
    void forget(const std::string &name) override { store.erase(name); }
    std::vector<KeptDescriptor> kept() override {
        std::vector<KeptDescriptor> result;
        for (const auto &[name, fd] : store) result.push_back({name, copy(fd.get())});
        return result;
    }
    Result<> give_scope(pid_t) override { return {}; }
    bool is_restarting() override { return false; }

    std::map<std::string, UniqueFd> store;

private:
    static UniqueFd copy(int fd) { return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 3)); }
};

}  // namespace vtpm
