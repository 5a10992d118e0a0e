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
    std::unique_ptr<Request> keep(EventLoop &loop, const std::string &name, int fd, Done done) override {
        keep(name, fd);
        return answer_soon(loop, {}, std::move(done));
    }
    void keep(const std::string &name, int fd) { store[name] = copy(fd); }
    void forget(const std::string &name) override { store.erase(name); }
    std::vector<KeptDescriptor> kept() override {
        std::vector<KeptDescriptor> result;
        for (const auto &[name, fd] : store) result.push_back({name, copy(fd.get())});
        return result;
    }
    std::unique_ptr<Request> give_scope(EventLoop &loop, pid_t, Done done) override {
        if (!is_busy) return answer_soon(loop, {}, std::move(done));
        waiting = [&loop, done = std::move(done)](const Result<> &result) { return answer_soon(loop, result, done); };
        return std::make_unique<Request>();
    }
    bool is_restarting() override { return false; }

    std::map<std::string, UniqueFd> store;
    bool is_busy = false;                                                 // and does not answer
    std::function<std::unique_ptr<Request>(const Result<> &)> waiting{};  // who was not answered

private:
    static UniqueFd copy(int fd) { return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 3)); }
};

}  // namespace vtpm
