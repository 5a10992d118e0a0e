// SPDX-License-Identifier: Apache-2.0
// Stands in the place of standard error, for this process and those that it starts: what millions of steps make
// the daemon say is kept for the present input only. It is shown if the process aborts.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

// The sanitizers' own, if they are there: reports about this process are not for the log.
extern "C" void __sanitizer_set_report_fd(void *fd) __attribute__((weak));  // NOLINT: the sanitizers' name

namespace vtpm {

class QuietLog {
public:
    QuietLog() : log_(::memfd_create("log", MFD_CLOEXEC)) {
        former_ = ::dup(STDERR_FILENO);
        // O_APPEND: several processes write, and clear() is not to leave a hole.
        UniqueFd appending(
            ::open(("/proc/self/fd/" + std::to_string(log_.get())).c_str(), O_RDWR | O_APPEND | O_CLOEXEC));
        require(appending && ::dup2(appending.get(), STDERR_FILENO) == STDERR_FILENO, "a log in memory");
        // A descriptor as a pointer is this function's interface.
        if (__sanitizer_set_report_fd != nullptr && former_ >= 0)
            __sanitizer_set_report_fd(reinterpret_cast<void *>(static_cast<std::intptr_t>(former_)));
        log_fd_ = log_.get();
        next_ = std::signal(SIGABRT, show);
    }

    void clear() { require(::ftruncate(log_.get(), 0) == 0, "the log is emptied"); }
    [[nodiscard]] bool says(std::string_view words) const { return text().find(words) != std::string::npos; }
    [[nodiscard]] std::string text() const {
        std::string text(static_cast<std::size_t>(std::max<off_t>(::lseek(log_.get(), 0, SEEK_END), 0)), ' ');
        const ssize_t size = ::pread(log_.get(), text.data(), text.size(), 0);
        text.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
        return text;
    }

private:
    // Only what is allowed in a signal's handler; abort() ends the process after it.
    static void show(int signal) {
        (void)!::write(former_, "\naborted; the log:\n", 19);
        char buffer[4096];
        ssize_t size = 0;
        for (off_t at = 0; (size = ::pread(log_fd_, buffer, sizeof buffer, at)) > 0; at += size)
            (void)!::write(former_, buffer, static_cast<std::size_t>(size));
        if (next_ != SIG_DFL && next_ != SIG_IGN && next_ != SIG_ERR) next_(signal);
    }

    inline static int former_ = -1;
    inline static int log_fd_ = -1;
    inline static void (*next_)(int) = SIG_DFL;  // libFuzzer's, or the one that tells the seed
    UniqueFd log_;
};

}  // namespace vtpm
