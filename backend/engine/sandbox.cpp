// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/sandbox.hpp"

#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

extern "C" {
#include <xen/grant_table.h>
#include <xen/sys/evtchn.h>
#include <xen/sys/gntdev.h>
#include <xen/xen.h>
}

namespace vtpm {
namespace {

struct ReleaseFilter {
    void operator()(void *filter) const { seccomp_release(filter); }
};
using Filter = std::unique_ptr<void, ReleaseFilter>;

// libseccomp reports errors as negative errno values.
bool added(int returned) {
    errno = -returned;
    return returned == 0;
}

bool allow(const Filter &filter, std::initializer_list<int> calls) {
    return std::ranges::all_of(
        calls, [&](int call) { return added(seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, call, 0)); });
}

// The call fails instead of ending the process.
bool refuse(const Filter &filter, int call, std::uint16_t error) {
    return added(seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(error), call, 0));
}

// One comparison of one argument. (libseccomp's own macros are C.)
bool allow_if(const Filter &filter, int call, const scmp_arg_cmp &condition) {
    return added(seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, call, 1, &condition));
}

bool allow_ioctl(const Filter &filter, unsigned long request) {
    return allow_if(filter, SCMP_SYS(ioctl), {1, SCMP_CMP_EQ, request, 0});
}

// Memory may be mapped, never as code.
bool allow_without_exec(const Filter &filter, int call) {
    return allow_if(filter, call, {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0});
}

Result<> set_limit(int resource, rlim_t value) {
    const rlimit limit{value, value};
    // glibc's C++ prototype wants its enumeration type.
    if (::setrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) return fail_errno("setrlimit {}", resource);
    return {};
}

}  // namespace

Result<> enter_empty_world() {
    if (::unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) != 0) return fail_errno("unshare");
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return fail_errno("make mounts private");
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    if (::mount("none", "/tmp", "tmpfs", flags, "size=4k,nr_inodes=1,mode=0555") != 0) return fail_errno("mount tmpfs");
    if (::chdir("/tmp") != 0) return fail_errno("chdir");
    // pivot_root(".", ".") stacks the old root over the new one, where it is taken off: pivot_root(2).
    if (::syscall(SYS_pivot_root, ".", ".") != 0) return fail_errno("pivot_root");
    if (::umount2(".", MNT_DETACH) != 0) return fail_errno("detach the old root");
    if (::mount(nullptr, "/", nullptr, MS_REMOUNT | MS_RDONLY | flags, nullptr) != 0) return fail_errno("read-only");
    return {};
}

Result<LonelyFork> LonelyFork::prepare() {
    UniqueFd own(::open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC));
    if (!own) return fail_errno("open /proc/self/ns/pid");
    return LonelyFork(std::move(own));
}

// Not clone(2) with CLONE_NEWPID: fork(2) runs the handlers of the libraries.
Result<pid_t> LonelyFork::fork() {
    VTPM_TRY(return_home());  // the last one may not have had the memory
    if (::unshare(CLONE_NEWPID) != 0) {
        if (errno == ENOSPC) return fail(ErrorCode::kShortage, "there are as many PID namespaces as may be");
        return fail_errno("unshare the PID namespace");
    }
    is_away_ = true;
    const pid_t child = ::fork();
    if (child == 0) return child;
    const int saved = errno;
    (void)return_home();
    errno = saved;
    if (child < 0) return fail_errno("fork");
    return child;
}

Result<> LonelyFork::return_home() {
    if (is_away_ && ::setns(own_.get(), CLONE_NEWPID) != 0) return fail_errno("return to the PID namespace");
    is_away_ = false;
    return {};
}

int landlock_version() {
    return static_cast<int>(
        std::max(0L, ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION)));
}

// landlock(7). A version handles all the rights that it knows, and nothing is allowed.
Result<> give_up_paths() {
    const int version = landlock_version();
    if (version == 0) return {};
    const auto all = [](int rights) { return (std::uint64_t{1} << rights) - 1; };
    struct {
        std::uint64_t files;
        std::uint64_t network;
        std::uint64_t scopes;
    } handled{};
    handled.files = all(version >= 5 ? 16 : version >= 3 ? 15 : version >= 2 ? 14 : 13);
    if (version >= 4) handled.network = all(2);
    if (version >= 6) handled.scopes = all(2);
    const UniqueFd rules(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &handled, sizeof handled, 0)));
    if (!rules) return fail_errno("landlock_create_ruleset");
    if (::syscall(SYS_landlock_restrict_self, rules.get(), 0) != 0) return fail_errno("landlock_restrict_self");
    return {};
}

Result<> become_user(std::uint32_t uid) {
    VTPM_TRY(set_limit(RLIMIT_CORE, 0));
    VTPM_TRY(set_limit(RLIMIT_NOFILE, 32));
    if (::setgroups(0, nullptr) != 0) return fail_errno("setgroups");
    if (::setresgid(uid, uid, uid) != 0) return fail_errno("setresgid {}", uid);
    if (::setresuid(uid, uid, uid) != 0) return fail_errno("setresuid {}", uid);
    VTPM_TRY(set_limit(RLIMIT_NPROC, 0));  // counted per user: no fork from here on
    if (::prctl(PR_SET_DUMPABLE, 0) != 0) return fail_errno("PR_SET_DUMPABLE");
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno("PR_SET_NO_NEW_PRIVS");
    return {};
}

Result<> allow_only_engine_calls() {
    const Filter filter(seccomp_init(SCMP_ACT_KILL_PROCESS));
    if (!filter) return fail(ErrorCode::kSystem, "seccomp_init");
    bool complete =
        // The loop: wait, the control socket, the state channel, event channel reads and unmasks.
        allow(filter, {SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg), SCMP_SYS(read),
                       SCMP_SYS(write), SCMP_SYS(close), SCMP_SYS(restart_syscall)}) &&
        // Ringing the guest; the unmap notification of the grant that was entered by the daemon.
        allow_ioctl(filter, IOCTL_EVTCHN_NOTIFY) && allow_ioctl(filter, IOCTL_GNTDEV_SET_UNMAP_NOTIFY) &&
        // malloc, and the page of the guest.
        allow(filter, {SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise)}) &&
        allow_without_exec(filter, SCMP_SYS(mmap)) && allow_without_exec(filter, SCMP_SYS(mprotect)) &&
        // OpenSSL: its random generator, its notice of a fork, its locks; libtpms: clocks.
        allow(filter, {SCMP_SYS(getrandom), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(futex),
                       SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(sched_yield)}) &&
        // glibc's abort(), on an internal error; the end.
        allow(filter, {SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigreturn), SCMP_SYS(tgkill),
                       SCMP_SYS(exit), SCMP_SYS(exit_group)}) &&
        // libtpms says on stderr what it does not accept, by vdprintf, which asks what that is: a pipe of unknown size.
        refuse(filter, SCMP_SYS(lseek), ESPIPE);
#if defined(__SANITIZE_ADDRESS__)
    // The sanitizers: reports, and UBSan asks a pipe whether memory is there; glibc asks a stderr that it may look at
    // whether it is a terminal. Never in a release build.
    complete = complete && allow_ioctl(filter, TCGETS) &&
               allow(filter,
                     {SCMP_SYS(sigaltstack), SCMP_SYS(prctl), SCMP_SYS(readlink), SCMP_SYS(openat),
                      SCMP_SYS(newfstatat), SCMP_SYS(getrlimit), SCMP_SYS(prlimit64), SCMP_SYS(pipe), SCMP_SYS(pipe2)});
#else
    complete = complete && refuse(filter, SCMP_SYS(newfstatat), ENOSYS);
#endif
    if (!complete) return fail_errno("seccomp rule");
    if (!added(seccomp_load(filter.get()))) return fail_errno("seccomp_load");
    return {};
}

}  // namespace vtpm
