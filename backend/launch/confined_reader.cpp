// SPDX-License-Identifier: Apache-2.0
#include "backend/launch/confined_reader.hpp"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <memory>

#include "base/unique_fd.hpp"
#include "launch/layout_message.hpp"

namespace vtpm::launch {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uid_t kReaderUid = 1'899'999'999;  // before the engines'; nobody else's
constexpr std::chrono::seconds kReaderTime{10};
constexpr rlim_t kReaderProcessorSeconds = 5;
#if defined(__SANITIZE_ADDRESS__)
constexpr rlim_t kReaderDescriptors = 8;  // UBSan asks a pipe whether memory is there
constexpr rlim_t kReaderMemory = RLIM_INFINITY;
#else
constexpr rlim_t kReaderDescriptors = 0;
constexpr rlim_t kReaderMemory = 64UL * 1024 * 1024;  // bytes; the file is not among them
#endif

bool limit(int resource, rlim_t value) {
    const rlimit both{value, value};
    return ::setrlimit(static_cast<__rlimit_resource>(resource), &both) == 0;  // glibc's C++ prototype
}

bool give_up_rights() {
    const bool root = ::geteuid() == 0;
    if (root && (::setgroups(0, nullptr) != 0 || ::setresgid(kReaderUid, kReaderUid, kReaderUid) != 0 ||
                 ::setresuid(kReaderUid, kReaderUid, kReaderUid) != 0))
        return false;
    return limit(RLIMIT_CORE, 0) && limit(RLIMIT_FSIZE, 0) && limit(RLIMIT_NOFILE, kReaderDescriptors) &&
           limit(RLIMIT_DATA, kReaderMemory) && limit(RLIMIT_CPU, kReaderProcessorSeconds) &&
           ::prctl(PR_SET_DUMPABLE, 0) == 0 && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

// Memory that is never code; the pipe; the end.
bool allow_only_reading() {
    const std::unique_ptr<void, void (*)(scmp_filter_ctx)> filter(seccomp_init(SCMP_ACT_KILL_PROCESS), seccomp_release);
    if (!filter) return false;
    const auto allow = [&](int call) { return seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, call, 0) == 0; };
    const scmp_arg_cmp not_code{2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0};
    const auto allow_data = [&](int call) {
        return seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, call, 1, &not_code) == 0;
    };
    const std::array calls{SCMP_SYS(write),  SCMP_SYS(brk),     SCMP_SYS(munmap),
                           SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(exit_group)};
#if defined(__SANITIZE_ADDRESS__)
    // The sanitizers: reports, and UBSan's pipe. Never in a release build.
    const std::array more{SCMP_SYS(sigaltstack),    SCMP_SYS(prctl),        SCMP_SYS(readlink),     SCMP_SYS(openat),
                          SCMP_SYS(newfstatat),     SCMP_SYS(getrlimit),    SCMP_SYS(prlimit64),    SCMP_SYS(pipe),
                          SCMP_SYS(pipe2),          SCMP_SYS(close),        SCMP_SYS(sched_yield),  SCMP_SYS(read),
                          SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigreturn), SCMP_SYS(getpid),
                          SCMP_SYS(gettid),         SCMP_SYS(tgkill),       SCMP_SYS(futex)};
    if (!std::ranges::all_of(more, allow)) return false;
#endif
    return std::ranges::all_of(calls, allow) && allow_data(SCMP_SYS(mmap)) && allow_data(SCMP_SYS(mprotect)) &&
           seccomp_load(filter.get()) == 0;
}

// All descriptors but `kept`; what the child says on standard error would be nobody's.
bool keep_only(int kept) {
    const auto fd = static_cast<unsigned>(kept);
    return (fd == 0 || ::close_range(0, fd - 1, 0) == 0) && ::close_range(fd + 1, ~0U, 0) == 0;
}

[[noreturn]] void read_and_tell(ByteView file, ImageReader reader, int pipe) {
    if (!keep_only(pipe) || !give_up_rights() || !allow_only_reading()) ::_exit(2);
    const Bytes message = layout_message(reader(file));
    // No more than a pipe takes at once.
    const ssize_t written = ::write(pipe, message.data(), message.size());
    ::_exit(written == static_cast<ssize_t>(message.size()) ? 0 : 3);
}

// To its end, or to the deadline: then nothing.
Bytes listen(int pipe, Clock::time_point deadline) {
    Bytes message;
    std::array<std::uint8_t, 4096> buffer;
    for (;;) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
        pollfd waiting{pipe, POLLIN, 0};
        const int ready = left.count() > 0 ? ::poll(&waiting, 1, static_cast<int>(left.count())) : 0;
        if (ready < 0 && errno == EINTR) continue;
        const ssize_t size = ready > 0 ? ::read(pipe, buffer.data(), buffer.size()) : -1;
        if (size == 0) return message;
        if (size < 0 || message.size() + static_cast<std::size_t>(size) > kMaxLayoutMessage) return {};
        message.insert(message.end(), buffer.begin(), buffer.begin() + size);
    }
}

// Ends the child if it still lives. Its status.
int collect(pid_t child) {
    (void)::kill(child, SIGKILL);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    return status;
}

}  // namespace

Result<BootImage> read_confined(ByteView file, ImageReader reader) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno("pipe");
    const UniqueFd ours(ends[0]);
    UniqueFd theirs(ends[1]);
    const pid_t child = ::fork();
    if (child < 0) return fail_errno("fork");
    if (child == 0) read_and_tell(file, reader, theirs.get());
    theirs.reset();
    const Bytes message = listen(ours.get(), Clock::now() + kReaderTime);
    const int status = collect(child);
    if (!message.empty()) return layout_in(message, file.size());
    if (WIFEXITED(status)) return fail(ErrorCode::kSystem, "the reader of the boot image could not be confined");
    return fail(ErrorCode::kInvalid,
                "the reader of the boot image was ended (signal {}): the image is damaged or hostile",
                WTERMSIG(status));
}

}  // namespace vtpm::launch
