// SPDX-License-Identifier: Apache-2.0
#include "private_bus.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "base/unique_fd.hpp"
#include "tests/catch.hpp"

using namespace vtpm;

namespace {

// dbus-daemon prints its address when it listens.
Process start_bus(const std::string &path) {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const UniqueFd reader(ends[0]);
    const UniqueFd writer(ends[1]);
    std::filesystem::remove(path);
    Process process({{"dbus-daemon", "--session", "--nofork", "--nopidfile", "--address=unix:path=" + path,
                      fmt::format("--print-address={}", writer.get())},
                     {},
                     {writer.get()}});
    char byte = 0;
    REQUIRE(::read(reader.get(), &byte, 1) == 1);
    return process;
}

}  // namespace

PrivateBus::PrivateBus(std::string socket_path) : path_(std::move(socket_path)), process_(start_bus(path_)) {}
