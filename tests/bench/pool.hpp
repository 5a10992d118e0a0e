// SPDX-License-Identifier: Apache-2.0
// Many clients of TPMs in one process: a thread for each of the two processors, and one command of each client under
// way.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <future>
#include <span>

#include "tests/bench/peers.hpp"

namespace vtpm {

// Answered commands of these clients until `end`. Each sends `commands` over and over.
template <typename Client>
std::uint64_t keep_busy(std::span<Client *const> clients, const std::vector<Bytes> &commands, Clock::time_point end) {
    const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
    std::vector<std::size_t> sent(clients.size(), 0);
    const auto send_next = [&](std::size_t i) { submit(*clients[i], commands[sent[i]++ % commands.size()]); };
    for (std::size_t i = 0; i < clients.size(); ++i) {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.u64 = i;
        if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, clients[i]->fd(), &event) != 0) throw std::runtime_error("epoll");
        send_next(i);
    }
    std::uint64_t answered = 0;
    for (std::size_t under_way = clients.size(); under_way > 0;) {
        std::array<epoll_event, 64> events{};
        const int ready = ::epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), 20'000);
        if (ready <= 0) throw std::runtime_error("the TPMs do not answer");
        const bool over = Clock::now() > end;
        for (std::size_t i = 0; i < static_cast<std::size_t>(ready); ++i) {
            const std::size_t client = events.at(i).data.u64;
            require_success(take(*clients[client]));
            if (over) {
                --under_way;
                continue;
            }
            ++answered;
            send_next(client);
        }
    }
    return answered;
}

// Commands per second of the first `count` clients.
template <typename Client>
double throughput(std::deque<Client> &clients, std::size_t count, const std::vector<Bytes> &commands,
                  std::chrono::milliseconds time) {
    std::vector<Client *> all;
    for (std::size_t i = 0; i < count; ++i) all.push_back(&clients.at(i));
    const std::size_t threads = std::min<std::size_t>(count, 2);
    const auto end = Clock::now() + time;
    std::vector<std::future<std::uint64_t>> pool;
    for (std::size_t i = 0; i < threads; ++i) {
        const std::size_t first = count * i / threads;
        const std::span<Client *const> part(&all[first], count * (i + 1) / threads - first);
        pool.push_back(
            std::async(std::launch::async, [part, &commands, end] { return keep_busy(part, commands, end); }));
    }
    std::uint64_t answered = 0;
    for (auto &thread : pool) answered += thread.get();
    return static_cast<double>(answered) / std::chrono::duration<double>(time).count();
}

}  // namespace vtpm
