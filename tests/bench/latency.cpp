// SPDX-License-Identifier: Apache-2.0
// latency DEVICE COMMAND ROUNDS: sends a TPM command (hexadecimal) so often, one at a time. Prints the median and the
// 99th percentile of a round trip in nanoseconds, and the nanoseconds of all.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

std::vector<std::uint8_t> from_hex(const std::string &text) {
    std::vector<std::uint8_t> bytes;
    for (std::size_t at = 0; at + 1 < text.size(); at += 2)
        bytes.push_back(static_cast<std::uint8_t>(std::stoul(text.substr(at, 2), nullptr, 16)));
    return bytes;
}

// Whether the TPM answered with success.
bool exchange(int device, const std::vector<std::uint8_t> &command) {
    std::array<std::uint8_t, 4096> response{};
    if (::write(device, command.data(), command.size()) != static_cast<ssize_t>(command.size())) return false;
    const ssize_t size = ::read(device, response.data(), response.size());
    return size >= 10 && std::all_of(&response[6], &response[10], [](std::uint8_t byte) { return byte == 0; });
}

}  // namespace

int main(int argc, char **argv) {
    if (argc != 4) return std::fputs("usage: latency DEVICE COMMAND ROUNDS\n", stderr), 2;
    const auto command = from_hex(argv[2]);
    const auto rounds = std::stoul(argv[3]);
    const int device = ::open(argv[1], O_RDWR | O_CLOEXEC);
    if (device < 0) return std::perror(argv[1]), 1;

    std::vector<std::int64_t> took;
    took.reserve(rounds);
    const auto nanoseconds = [](Clock::duration time) {
        return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
    };
    const auto began = Clock::now();
    while (took.size() < rounds) {
        const auto start = Clock::now();
        if (!exchange(device, command)) return std::fputs("latency: the TPM refuses the command\n", stderr), 1;
        took.push_back(nanoseconds(Clock::now() - start));
    }
    const auto all = nanoseconds(Clock::now() - began);
    std::sort(took.begin(), took.end());
    std::printf("%lld %lld %lld\n", static_cast<long long>(took[rounds / 2]),
                static_cast<long long>(took[rounds * 99 / 100]), static_cast<long long>(all));
    return 0;
}
