// SPDX-License-Identifier: Apache-2.0
// xen-vtpm-domains: says of a domain whether it is suspended, paused, has run, and which incarnation it is. That is all
// that xen-vtpmd has to ask the hypervisor, and the only reason for which it would have to be able to make hypercalls.
#include <systemd/sd-daemon.h>

#include "backend/xen/domains_server.hpp"
#include "backend/xen/xen_domains.hpp"
#include "base/log.hpp"
#include "base/program_options.hpp"
#include "base/seqpacket.hpp"
#include "version.hpp"

namespace vtpm {
namespace {

// systemd's, which keeps it while this program is restarted; or an own one.
Result<UniqueFd> listening_socket(const std::string &path) {
    const int given = sd_listen_fds(1);
    if (given > 1) return fail(ErrorCode::kInvalid, "more than one socket was given");
    return given == 1 ? UniqueFd(SD_LISTEN_FDS_START) : listen_seqpacket(path, 0600);
}

Result<> run(const std::string &path) {
    VTPM_ASSIGN(EventLoop loop, EventLoop::create());
    VTPM_TRY(loop.stop_on_signals());
    VTPM_ASSIGN(const auto domains, open_xen_domains());
    VTPM_ASSIGN(UniqueFd listening, listening_socket(path));
    DomainsServer server(loop, *domains, std::move(listening));
    VTPM_TRY(server.start());
    loop.feed_watchdog();
    (void)sd_notify(0, "READY=1\nSTATUS=Answers xen-vtpmd");
    return loop.run();
}

}  // namespace
}  // namespace vtpm

int main(int argc, char **argv) {
    std::string path = vtpm::kDomainsSocket;
    const vtpm::Program program{"Asks the hypervisor about domains, for xen-vtpmd",
                                "",
                                vtpm::kVersion,
                                {{"--socket", &path, "Where to listen, if systemd gives no socket"}}};
    if (const auto status = vtpm::read_command_line(program, argc, argv)) return *status;
    const auto ended = vtpm::run(path);
    if (!ended) vtpm::log::error("xen-vtpm-domains: {}", ended.error().text);
    return ended ? 0 : 1;
}
