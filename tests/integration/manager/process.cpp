// SPDX-License-Identifier: Apache-2.0
#include "process.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <stdexcept>

namespace {

[[noreturn]] void become(const Launch &launch) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (launch.in >= 0) ::dup2(launch.in, STDIN_FILENO);
    if (launch.out >= 0) ::dup2(launch.out, STDOUT_FILENO);
    if (launch.err >= 0) ::dup2(launch.err, STDERR_FILENO);
    for (const int fd : launch.inherited) ::fcntl(fd, F_SETFD, 0);
    for (const auto &[name, value] : launch.environment) ::setenv(name.c_str(), value.c_str(), 1);
    std::vector<char *> arguments;
    for (const std::string &argument : launch.command) arguments.push_back(const_cast<char *>(argument.c_str()));
    arguments.push_back(nullptr);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
}

// A file in memory: takes any amount of output without anyone reading.
vtpm::UniqueFd memory_file() { return vtpm::UniqueFd(::memfd_create("output", MFD_CLOEXEC)); }

std::string content(int fd) {
    std::string text(static_cast<std::size_t>(::lseek(fd, 0, SEEK_END)), '\0');
    if (::pread(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) throw std::runtime_error("read");
    return text;
}

}  // namespace

Process::Process(const Launch &launch) : pid_(::fork()) {
    if (pid_ < 0) throw std::runtime_error("fork");
    if (pid_ == 0) become(launch);
}

Process::~Process() {
    if (pid_ > 0) end(SIGKILL);
}

int Process::end(int signal) {
    ::kill(pid_, signal);
    return wait();
}

int Process::wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {}
    pid_ = -1;
    return status;
}

vtpm::UniqueFd file_with(std::string_view content) {
    vtpm::UniqueFd file = memory_file();
    if (::pwrite(file.get(), content.data(), content.size(), 0) != static_cast<ssize_t>(content.size()))
        throw std::runtime_error("write");
    return file;
}

Output run(Launch launch) {
    const vtpm::UniqueFd out = memory_file();
    const vtpm::UniqueFd err = memory_file();
    const vtpm::UniqueFd nothing = memory_file();
    if (launch.in < 0) launch.in = nothing.get();
    launch.out = out.get();
    launch.err = err.get();
    const int status = Process(launch).wait();
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, content(out.get()), content(err.get())};
}
