// SPDX-License-Identifier: Apache-2.0
// xen-vtpm-engine: started by xen-vtpmd, with the control socket as descriptor 3. Not for the command line.
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "backend/engine/zygote.hpp"
#include "base/log.hpp"

#if defined(__SANITIZE_ADDRESS__)
// The leak check at exit stops the process with system calls that an engine does not have.
extern "C" const char *__asan_default_options() { return "detect_leaks=0"; }  // NOLINT: the sanitizer's name for it
#endif

int main() {
    constexpr int kControl = 3;
    struct stat status {};
    if (::fstat(kControl, &status) != 0 || !S_ISSOCK(status.st_mode)) {
        vtpm::log::error("xen-vtpm-engine is started by xen-vtpmd; see xen-vtpmd(8)");
        return 2;
    }
    (void)::fcntl(kControl, F_SETFD, FD_CLOEXEC);
    (void)::prctl(PR_SET_NAME, "xen-vtpm-engine");  // it was started by a descriptor
    const auto ended = vtpm::run_zygote(vtpm::UniqueFd(kControl), vtpm::engine_program());
    if (!ended) vtpm::log::error("xen-vtpm-engine: {}", ended.error().text);
    return ended ? 0 : 1;
}
