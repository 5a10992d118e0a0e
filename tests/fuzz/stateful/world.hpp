// SPDX-License-Identifier: Apache-2.0
// A host with its toolstack, a manager, and a well-behaved guest next to the hostile one; and what must be true of
// them.
#pragma once

#include <fmt/format.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>

#include "backend/engine/tpm_messages.hpp"
#include "base/log.hpp"
#include "tests/fakes/fake_manager.hpp"
#include "tests/fuzz/stateful/guarded_xenstore.hpp"
#include "tests/fuzz/stateful/hostile_page.hpp"
#include "tests/integration/backend/host.hpp"

namespace vtpm {

constexpr DeviceId kHostile{7, 0};
constexpr DeviceId kSecond{7, 1};  // of the same guest, for the same vTPM
constexpr DeviceId kNeighbour{8, 0};
constexpr std::uint32_t kIndex = 0x01500001;
constexpr unsigned kPcr = 10;

// But for files and pipes, which are the fuzzer's.
inline std::vector<std::string> open_descriptors() {
    std::vector<std::string> all;
    for (const auto &entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        std::error_code closed;  // that of the directory itself
        const std::string what = std::filesystem::read_symlink(entry.path(), closed).string();
        const bool is_ours =
            what.starts_with("socket:") || what.starts_with("anon_inode:") || what.starts_with("/memfd:");
        if (is_ours) all.push_back(what);
    }
    return all;
}

class World {
public:
    World() : rung_{hear(page.guest), hear(neighbour_.guest)} {
        host.daemons_xenstore = &xenstore_;
        host.reconcile_interval = std::chrono::milliseconds(1);  // a flood is what this is
        xenstore_.devices = {kHostile, kSecond, kNeighbour};
        require(host.start().has_value(), "a daemon starts");
        require(host.comes_up(kNeighbour, Uuid::random(), neighbour_.guest), "a guest gets its TPM");
        require(ok(exchange(neighbour_, commands::pcr_extend(kPcr, 1))), "its PCR is extended");
        require(ok(exchange(neighbour_, commands::nv_define(kIndex, 1))), "it gets an index");
        neighbours_pcr_ = commands::pcr_value(exchange(neighbour_, commands::pcr_read(kPcr)));
        require(host.comes_up(kHostile, vtpm, page.guest), "the hostile guest gets its TPM");
        require(ok(exchange(page, commands::nv_define(kIndex, 16))), "its TPM gets a mark");
        require(ok(exchange(page, commands::nv_write(kIndex, mark()))), "its TPM gets a mark");
        made_ = manager.manufactured;
        leave(kHostile);
        require(host.run_until([&] { return host.engines->count() == 1 && !manager.in_use(vtpm); }), "it is gone");
        host.run_for(std::chrono::milliseconds(100));
        descriptors_ = open_descriptors().size() - 2 * host.service.store.size();
    }

    // The hostile guest may have asked for its ring's end before: then there is no answer.
    Bytes exchange(HostilePage &whose, ByteView command) {
        return whose.exchange(command, [&](const std::function<bool()> &done) {
            (void)host.run_until([&] { return done() || (&whose == &page && !is_connected()); });
            return done();
        });
    }
    bool is_connected() { return host.status(kHostile) == "connected"; }
    static bool ok(const Bytes &response) { return !response.empty() && return_code(response) == 0; }

    void turns(std::size_t count) {
        for (; count > 0 && sd_event_run(host.loop.raw(), 0) > 0; --count) {}
    }
    [[nodiscard]] bool is_attached(DeviceId id) {
        return host.xenstore.read(backend_path(0, id) + "/frontend-id").has_value();
    }

    void require_of(DeviceId device, bool holds, const char *what) {
        if (holds) return;
        for (const DeviceId id : {kHostile, kSecond, kNeighbour})
            log::error("device {}{}: state {}, online {}, frontend {}; {}, engine {}: {}", to_string(id),
                       id == device ? " (this one)" : "", host.own_state(id),
                       host.xenstore.read(backend_path(0, id) + "/online").value_or("none"),
                       host.xenstore.read(frontend_path(id) + "/state").value_or("none"), host.status(id),
                       host.backend->devices().contains(id) ? host.backend->devices().at(id)->engine_pid() : 0,
                       host.reason(id));
        require(false, what);
    }
    // As libxl does, and as it waits.
    void leave(DeviceId id) {
        if (!is_attached(id)) return;
        const bool refused = host.own_state(id) == "none";
        if (!refused) host.detach(id);
        require_of(id, refused || host.reaches(id, "6"), "the order to leave is obeyed");
        host.remove(id);
    }
    void attach(DeviceId id) {
        host.rings.guests[kHostile.domain] = &page.guest;
        if (!is_attached(id)) host.attach(id, vtpm);
    }

    void check_neighbour() {
        require(ok(exchange(neighbour_, commands::get_random())), "the neighbour is answered");
        require(commands::pcr_value(exchange(neighbour_, commands::pcr_read(kPcr))) == neighbours_pcr_,
                "the neighbour's PCR is what it was");
    }

    // Nothing is left of the hostile guest, and its power cycle gives it its own TPM again.
    void end_life() {
        leave(kSecond);
        leave(kHostile);
        // A manager that was restarted, too: it may be this that makes its engine ask for the next one.
        require(ok(exchange(neighbour_, commands::nv_write(kIndex, Bytes{1}))), "the neighbour's changes are stored");
        check_nothing_is_left();
        host.domains.build(kHostile.domain);
        std::ranges::fill(page.guest.page(), std::uint8_t{0});  // of another kernel
        require(host.comes_up(kHostile, vtpm, page.guest), "a power cycle gives a TPM");
        require(commands::nv_data(exchange(page, commands::nv_read(kIndex, 16))) == mark(), "it is the same TPM");
        require(commands::pcr_value(exchange(page, commands::pcr_read(kPcr))) == Bytes(32, 0), "its PCRs are zero");
        require(manager.manufactured == made_, "no TPM is made in the place of another");
        check_neighbour();
        leave(kHostile);
        check_nothing_is_left();
    }

    Host host{(std::filesystem::temp_directory_path() / fmt::format("xen-vtpm-fuzz-{}", ::getpid())).string(),
              std::chrono::milliseconds(1)};
    FakeManager manager{host.loop, host.socket_path};
    HostilePage page;
    const Uuid vtpm = Uuid::random();

private:
    Bytes mark() const { return {vtpm.bytes.begin(), vtpm.bytes.end()}; }

    void check_nothing_is_left() {
        require(host.run_until([&] { return host.engines->count() == 1; }), "the guest's engine has ended");
        require(host.run_until([&] { return !manager.in_use(vtpm); }), "its vTPM is not in use");
        require(host.run_until([&] { return host.status(kNeighbour) == "connected"; }), "the neighbour is connected");
        while (::waitpid(-1, nullptr, WNOHANG) > 0) {  // zygotes of former daemons
        }
        require(engine_processes() == 1, "the guest's engine process has ended");
        // The daemon's and the service manager's of each zygote.
        const auto expected = [&] { return descriptors_ + 2 * host.service.store.size(); };
        if (host.run_until([&] { return open_descriptors().size() == expected(); })) return;
        for (const std::string &descriptor : open_descriptors()) log::error("{}", descriptor);
        require(false, "no descriptor is left");
    }
    std::size_t engine_processes() const {
        std::size_t count = 0;
        for (const auto &[name, fd] : host.service.store) {
            const std::string pid = name.substr(name.rfind('-') + 1);
            std::ifstream children(fmt::format("/proc/{0}/task/{0}/children", pid));
            count += static_cast<std::size_t>(std::distance(std::istream_iterator<pid_t>(children), {}));
        }
        return count;
    }

    // So that the loop does not sleep on an answer.
    EventSource hear(LoopbackGuest &guest) {
        auto source = host.loop.on_readable(guest.fd(), [&guest] {
            eventfd_t count = 0;
            (void)::eventfd_read(guest.fd(), &count);
        });
        require(source.has_value(), "a source of events");
        return std::move(*source);
    }

    GuardedXenstore xenstore_{host.xenstore};
    HostilePage neighbour_;
    std::array<EventSource, 2> rung_;
    Bytes neighbours_pcr_;
    int made_ = 0;
    std::size_t descriptors_ = 0;
};

}  // namespace vtpm
