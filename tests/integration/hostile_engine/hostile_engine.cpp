// SPDX-License-Identifier: Apache-2.0
// An engine that turns hostile once it is confined. Says EngineReady with kNone if it got through, and with why it did
// not if it is alive to say so. With VTPM_FILTERED=0 the system call filter is left out: what else would hold?
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "backend/engine/command_limit.hpp"
#include "backend/engine/zygote.hpp"
#include "base/seqpacket.hpp"
#include "tests/integration/hostile_engine/attempts.hpp"

extern "C" {
#include <xen/grant_table.h>
#include <xen/sys/evtchn.h>
#include <xen/sys/gntdev.h>
#include <xen/xen.h>
}

#if defined(__SANITIZE_ADDRESS__)
extern "C" const char *__asan_default_options() { return "detect_leaks=0"; }  // NOLINT: the sanitizer's name for it
#endif

namespace vtpm {
namespace {

constexpr int kShortPeriod = 1;  // seconds

bool opens(const char *path, int flags) { return ::open(path, flags, 0600) >= 0; }

bool connects(int family, const sockaddr *address, socklen_t size) {
    const int socket = ::socket(family, SOCK_STREAM, 0);
    return socket >= 0 && ::connect(socket, address, size) == 0;
}

bool reaches_unix(const char *path, std::size_t size) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path, size);
    return connects(AF_UNIX, reinterpret_cast<const sockaddr *>(&address),
                    static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size));
}

bool reaches_network() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(22);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    // Nobody listens there: a refusal by the other side would be a success.
    return connects(AF_INET, reinterpret_cast<const sockaddr *>(&address), sizeof address) || errno == ECONNREFUSED;
}

bool has_a_foreign_descriptor(int control, int state_channel) {
    for (int fd = STDERR_FILENO + 1; fd < 4096; ++fd)
        if (fd != control && fd != state_channel && ::fcntl(fd, F_GETFD) >= 0) return true;
    errno = EBADF;
    return false;
}

bool reads_memory_of(pid_t victim) {
    char byte = 0;
    iovec here{&byte, 1};
    iovec there{reinterpret_cast<void *>(0x400000), 1};  // NOLINT: any address
    const bool read = ::process_vm_readv(victim, &here, 1, &there, 1, 0) >= 0;
    return read || errno == EFAULT;  // it got as far as the address
}

bool forks() {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    return child > 0;
}

bool executes() {
    char name[] = "sh";
    char *arguments[] = {name, nullptr};
    (void)::execv("/bin/sh", arguments);
    return false;
}

bool can_dump_core() {
    rlimit limit{};
    (void)::getrlimit(RLIMIT_CORE, &limit);
    errno = EPERM;
    return limit.rlim_max != 0 || ::prctl(PR_GET_DUMPABLE) != 0;
}

bool takes_many_descriptors() {
    for (int i = 0; i < 200; ++i)
        if (::dup(STDERR_FILENO) < 0) return false;
    return true;
}

// The filter allows it: time is the limit, here a short one.
bool computes_forever() {
#if !VTPM_FILTERED
    (void)limit_commands(std::chrono::seconds(kShortPeriod));
#endif
    const CommandUnderWay command;
    rusage used{};
    volatile unsigned sum = 0;
    do {
        for (unsigned i = 0; i < 50'000'000; ++i) sum = sum + i;
        if (::getrusage(RUSAGE_SELF, &used) != 0) return false;
    } while (used.ru_utime.tv_sec < 10L * kShortPeriod);
    return true;
}

bool floods_daemon(int control) {
    for (int i = 0; i < 1000; ++i)
        if (!send(control, StateChannelStatus{ErrorCode::kUnavailable, "so it says"})) return false;
    return true;
}

bool floods_journal() {
    for (int i = 0; i < 10'000; ++i) {
        const std::string line = fmt::format("<3>device 1/0: what xen-vtpmd would say \x1b[2J {}\n", i);
        (void)!::write(STDERR_FILENO, line.data(), line.size());
    }
    return true;
}

bool succeeds(Attempt attempt, pid_t victim, int control, int state_channel) {
    switch (attempt) {
        case Attempt::kNone:
            return true;
        case Attempt::kOpenFile:
            return opens("/etc/passwd", O_RDONLY) || opens(VTPM_HOST_FILE, O_RDONLY);
        case Attempt::kOpenDirectory:
            return opens("/", O_RDONLY | O_DIRECTORY);
        case Attempt::kOpenProc:
            return opens("/proc/self/status", O_RDONLY);
        case Attempt::kOpenDevice:
            return opens("/dev/xen/evtchn", O_RDWR) || opens("/dev/null", O_RDWR);
        case Attempt::kMakeFile:
            return opens("/file", O_CREAT | O_WRONLY) || ::mkdir("/directory", 0700) == 0;
        case Attempt::kReachManager: {
            constexpr char kPath[] = "/run/xen-vtpm/manager.sock";
            return reaches_unix(kPath, sizeof kPath);
        }
        case Attempt::kReachAbstractSocket:
            return reaches_unix("\0xen-vtpm-test-abstract", 23);
        case Attempt::kReachNetwork:
            return reaches_network();
        case Attempt::kUseForeignDescriptor:
            return has_a_foreign_descriptor(control, state_channel);
        case Attempt::kSignalVictim:
            return ::kill(victim, 0) == 0;
        case Attempt::kSignalAll:
            return ::kill(-1, 0) == 0;
        case Attempt::kTraceVictim:
            return ::ptrace(PTRACE_ATTACH, victim, nullptr, nullptr) == 0;
        case Attempt::kReadVictim:
            return reads_memory_of(victim);
        case Attempt::kOpenVictim:
            return ::syscall(SYS_pidfd_open, victim, 0) >= 0;
        case Attempt::kExecute:
            return executes();
        case Attempt::kFork:
            return forks();
        case Attempt::kBecomeRoot:
            return ::setuid(0) == 0;
        case Attempt::kMount:
            return ::mount("none", "/", "tmpfs", 0, nullptr) == 0;
        case Attempt::kEnterNamespace:
            return ::syscall(SYS_unshare, CLONE_NEWNS) == 0;
        case Attempt::kLoadModule:
            return ::syscall(SYS_init_module, nullptr, 0, "") == 0;
        case Attempt::kDumpCore:
            return can_dump_core();
        case Attempt::kSharedMemory:
            return ::shmget(VTPM_HOST_SHM, 1, 0) >= 0;
        case Attempt::kManyDescriptors:
            return takes_many_descriptors();
        case Attempt::kComputeForever:
            return computes_forever();
        case Attempt::kFloodDaemon:
            return floods_daemon(control);
        case Attempt::kFloodJournal:
            return floods_journal();
        case Attempt::kMapCode:
            return ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
                   MAP_FAILED;
        case Attempt::kBindEventChannel: {
            ioctl_evtchn_bind_interdomain bind{.remote_domain = 1, .remote_port = 1};
            return ::ioctl(control, IOCTL_EVTCHN_BIND_INTERDOMAIN, &bind) >= 0;
        }
        case Attempt::kMapGrant: {
            ioctl_gntdev_map_grant_ref grant{};
            return ::ioctl(control, IOCTL_GNTDEV_MAP_GRANT_REF, &grant) >= 0;
        }
        case Attempt::kEnterUserNamespace:
            return ::syscall(SYS_unshare, CLONE_NEWUSER) == 0;
    }
    return false;
}

Result<> attack(const StartEngine &order, UniqueFd control, UniqueFd state_channel, Meter &) {
    const auto attempt = static_cast<Attempt>(order.device);
    errno = 0;
    const bool done = succeeds(attempt, static_cast<pid_t>(order.domain), control.get(), state_channel.get());
    const char *why = ::strerrorname_np(errno);
    VTPM_TRY(send(control.get(), done ? EngineReady{} : EngineReady{ErrorCode::kRefused, why}));
    std::array<std::uint8_t, kMaxSmallMessage> buffer;
    (void)receive_message(control.get(), buffer);
    return {};
}

#if !VTPM_FILTERED
Result<> no_filter() { return {}; }
#endif

}  // namespace
}  // namespace vtpm

int main() {
    vtpm::EngineProgram program = vtpm::engine_program();
    program.run = vtpm::attack;
#if !VTPM_FILTERED
    program.filter = vtpm::no_filter;
#endif
    return vtpm::run_zygote(vtpm::UniqueFd(3), program) ? 0 : 1;
}
