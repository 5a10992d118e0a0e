// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "process.hpp"

// A dbus-daemon of the test's own, which lets everyone do everything.
class PrivateBus {
public:
    explicit PrivateBus(std::string socket_path);
    [[nodiscard]] std::string address() const { return "unix:path=" + path_; }

private:
    std::string path_;
    Process process_;
};
