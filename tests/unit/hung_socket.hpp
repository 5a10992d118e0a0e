// SPDX-License-Identifier: Apache-2.0
// Somebody who listens and never says a word, and how long a loop stands still for him.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string>
#include "tests/catch.hpp"

#include "base/event_loop.hpp"
#include "base/unique_fd.hpp"

namespace vtpm {

class HungSocket {
public:
    explicit HungSocket(int type)
        : path_(std::filesystem::temp_directory_path() / fmt::format("xen-vtpm-hung-{}-{}", ::getpid(), type)),
          type_(type) {
        std::filesystem::remove(path_);
    }
    ~HungSocket() { std::filesystem::remove(path_); }
    HungSocket(const HungSocket &) = delete;
    HungSocket &operator=(const HungSocket &) = delete;

    void listen() {
        socket_ = UniqueFd(::socket(AF_UNIX, type_ | SOCK_CLOEXEC, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path_.copy(address.sun_path, sizeof address.sun_path - 1);
        // The sockets API wants the generic type.
        REQUIRE(::bind(socket_.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0);
        if (type_ != SOCK_DGRAM) REQUIRE(::listen(socket_.get(), 10) == 0);
    }
    [[nodiscard]] const std::string &path() const { return path_; }
    [[nodiscard]] int fd() const { return socket_.get(); }

private:
    std::string path_;
    int type_;
    UniqueFd socket_;
};

// The longest time between two of its turns.
class Standstill {
public:
    explicit Standstill(EventLoop &loop) : loop_(loop) { tick(); }

    template <typename Done>
    bool run_until(Done done, std::chrono::milliseconds limit) {
        const auto deadline = Clock::now() + limit;
        while (!done() && Clock::now() < deadline) (void)sd_event_run(loop_.raw(), 20'000);
        return done();
    }
    [[nodiscard]] std::chrono::milliseconds longest() const {
        return std::chrono::floor<std::chrono::milliseconds>(longest_);
    }

private:
    using Clock = std::chrono::steady_clock;

    void tick() {
        const auto now = Clock::now();
        longest_ = std::max(longest_, now - last_);
        last_ = now;
        next_ = std::move(*loop_.after(std::chrono::milliseconds(50), [this] { tick(); }));
    }

    EventLoop &loop_;
    Clock::time_point last_ = Clock::now();
    Clock::duration longest_{};
    EventSource next_;
};

}  // namespace vtpm
