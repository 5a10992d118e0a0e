// SPDX-License-Identifier: Apache-2.0
// Programs log, libraries return errors. One line to stderr with the priority prefix of sd-daemon(3), which journald
// and a terminal both read.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <utility>

namespace vtpm::log {

inline void line(const char *prefix, const std::string &text) { std::fprintf(stderr, "%s%s\n", prefix, text.c_str()); }

template <typename... Args>
void error(fmt::format_string<Args...> format, Args &&...args) {
    line("<3>", fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void warning(fmt::format_string<Args...> format, Args &&...args) {
    line("<4>", fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void info(fmt::format_string<Args...> format, Args &&...args) {
    line("<6>", fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace vtpm::log
