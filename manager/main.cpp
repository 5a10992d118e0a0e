// SPDX-License-Identifier: Apache-2.0
// xen-vtpm-managerd: keys, the hardware TPM and the store of all vTPMs of this machine.
#include <sys/stat.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "base/log.hpp"
#include "base/program_options.hpp"
#include "manager/config.hpp"
#include "manager/control/manager_interface.hpp"
#include "manager/groups/boot_policies.hpp"
#include "manager/groups/file_sealer.hpp"
#include "manager/groups/tpm_sealer.hpp"
#include "manager/store/sqlite_store.hpp"
#include "manager/systemd_unit.hpp"
#include "manager/tpm/tpm_device.hpp"
#include "manager/unlocker.hpp"
#include "manager/vtpm/backend_server.hpp"
#include "shared-protocol/bus_names.hpp"
#include "version.hpp"

namespace vtpm {
namespace {

// Looked for each time: it may come later, or come back under another number.
Result<std::string> tcti_of(const Config &config) {
    if (!config.tcti.empty()) return config.tcti;
    return find_hardware_tpm(config.tpm).map([](const TpmDevice &tpm) { return tpm.tcti(); });
}

OpenSealer sealer_of(const Config &config, const std::shared_ptr<TpmReuse> &reuse) {
    if (config.sealing == Sealing::kTpm)
        return [config, reuse](ByteView pinned) -> Result<std::unique_ptr<Sealer>> {
            VTPM_ASSIGN(const std::string tcti, tcti_of(config));
            const char *const credentials = std::getenv("CREDENTIALS_DIRECTORY");
            auto sealer = open_tpm_sealer(
                tcti, pinned, event_log_of(tcti, credentials), [credentials] { return passwords_of(credentials); },
                reuse);
            if (!sealer && sealer.error().code == ErrorCode::kUnavailable) sealer.error().text += tcti_advice(config);
            return sealer;
        };
    log::warning("sealing = \"file\": the keys of all vTPMs lie on this disk, NO TPM PROTECTS THEM");
    return [path = config.state_directory + "/sealing.key"](ByteView pinned) { return open_file_sealer(path, pinned); };
}

constexpr std::chrono::seconds kLastWords{20};  // less than the unit's TimeoutStopSec=

// As after a crash: the next start finds everything that was acknowledged.
[[noreturn]] void end_without_the_tpm() {
    log::error("the hardware TPM does not answer: we end without it");
    ::_exit(EXIT_FAILURE);
}

// What the administrator has to do about it, if it may be the unit that does not let us.
tl::unexpected<Error> advised(Error error, const Config &config) {
    if (error.code == ErrorCode::kSystem) error.text += drop_in_advice(config);
    return tl::make_unexpected(std::move(error));
}

Result<> run(const Config &config) {
    VTPM_ASSIGN(EventLoop loop, EventLoop::create());
    VTPM_TRY(loop.stop_on_signals());
    Turn turn;
    VTPM_ASSIGN(const auto worker, Worker::start(loop, turn));
    // Others find the TPM free, and its slots empty, as soon as we have no more to ask.
    const auto reuse = std::make_shared<TpmReuse>();
    worker->when_idle([reuse] { reuse->disconnect(); });
    auto store_opened = SqliteStore::open(config.state_directory);
    if (!store_opened) return advised(store_opened.error(), config);
    SqliteStore store = std::move(*store_opened);
    GroupKeys keys(
        store, config.sealing == Sealing::kTpm ? "tpm" : "file", worker->giving_the_turn(sealer_of(config, reuse)),
        config.sealing == Sealing::kTpm ? config.seal_pcrs : PcrSelection(), [&worker] { return worker->give_way(); });
    Inventory inventory(store, keys);
    GroupCommit commit(loop, inventory);
    CertificateAuthorities authorities(keys, inventory, config.ek_certificates);
    Attestor attestor(store, keys, authorities);
    GuestAttestations attestations(*worker, attestor, config.guest_attestation);
    HostPcrs host_pcrs(loop, *worker, keys, config.host_pcrs);
    LaunchApprovals approvals(store, keys);
    StateServices services{loop, store, inventory, commit, authorities, host_pcrs, *worker, attestations, approvals};
    Vtpms vtpms(services, keys, {config.auto_create, config.default_tpm, config.profile, config.launch});
    BackendServer backend(loop, vtpms);
    BootPolicies policies(store, keys);
    Unlocker unlocker(loop, *worker, keys);
    bus::Server control(loop, kManagerBus,
                        manager_methods({vtpms, keys, policies, approvals, authorities, attestor, store, *worker,
                                         [&unlocker] { unlocker.look(); }}),
                        [](const std::string &text) { log::warning("{}; xen-vtpm cannot reach us until then", text); });

    Result<> ran;
    // The backend's first question gets the final answer, if the TPM gives one soon.
    unlocker.start([&] {
        ran = backend.listen(config.socket);
        if (!ran) ran = advised(ran.error(), config);
        if (!ran) return loop.stop();
        control.start();
        (void)sd_notify(0, "READY=1");
    });
    loop.feed_watchdog();
    const Result<> turned = loop.run(turn);
    if (!worker->stop(kLastWords, [&keys] { keys.close(); })) end_without_the_tpm();
    return ran ? turned : ran;
}

// systemd does not restart on these: only an administrator can help.
int exit_status(const Error &error) {
    if (error.code == ErrorCode::kInvalid || error.code == ErrorCode::kRefused) return EX_CONFIG;
    return EXIT_FAILURE;
}

Result<Config> configure(const std::string &path) {
    if (path == kDefaultConfig && ::access(kDefaultConfig, F_OK) != 0) return parse_config("", kDefaultConfig);
    return load_config(path);
}

Result<> print_drop_in(const std::string &unit, const Config &config) {
    const bool backend = unit == "xen-vtpmd.service";
    if (!backend && unit != "xen-vtpm-managerd.service")
        return fail(ErrorCode::kInvalid, "'{}' is neither xen-vtpm-managerd.service nor xen-vtpmd.service", unit);
    VTPM_ASSIGN(const std::string text, backend ? drop_in_of_backend(config) : drop_in_of_manager(config));
    if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0) return fail_errno("standard output");
    return {};
}

int report(const Error &error) {
    log::error("{}", error.text);
    return exit_status(error);
}

}  // namespace
}  // namespace vtpm

int main(int argc, char **argv) {
    std::string config_path = vtpm::kDefaultConfig;
    std::string drop_in;
    bool check = false;
    const vtpm::Program program{
        "Keeps the keys and the states of this machine's virtual TPMs.",
        "xen-vtpm-managerd",
        std::string("xen-vtpm-managerd ") + vtpm::kVersion,
        {{"--config", &config_path, "Configuration file"},
         {"--check", &check, "Only say whether configuration and store are such that this program can run, and end"},
         {"--drop-in", &drop_in, "Print what this unit needs for that configuration, and end"}}};
    if (const auto status = vtpm::read_command_line(program, argc, argv)) return *status;

    ::umask(0077);
    ::setenv("TSS2_LOG", "all+none", 0);  // errors come to us as values; the library need not print them too
    const auto config = vtpm::configure(config_path);
    if (!config) return vtpm::report(config.error());
    if (check) {
        const auto known = vtpm::SqliteStore::require_known(config->state_directory);
        return known ? EXIT_SUCCESS : vtpm::report(known.error());
    }
    const auto ran = drop_in.empty() ? vtpm::run(*config) : vtpm::print_drop_in(drop_in, *config);
    return ran ? EXIT_SUCCESS : vtpm::report(ran.error());
}
