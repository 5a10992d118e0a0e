// SPDX-License-Identifier: Apache-2.0
// Starts engines by the zygote. Engines outlive the daemon: the service manager keeps the
// connection to their zygote, the zygote keeps theirs, and the next daemon takes over both (docs/decisions/0007).
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backend/control_groups.hpp"
#include "backend/device/engine_process.hpp"
#include "backend/device/meters.hpp"
#include "backend/service_manager.hpp"
#include "base/allowance.hpp"
#include "base/event_loop.hpp"
#include "base/unique_fd.hpp"
#include "base/uuid.hpp"
#include "shared-protocol/messages.hpp"
#include "shared-protocol/xenstore_names.hpp"

namespace vtpm {

// By which the service manager keeps a zygote's connection: the versions that it and its engines speak.
struct KeptName {
    std::uint32_t engines_protocol;
    std::uint32_t state_protocol;
    pid_t zygote;
};
std::string to_string(const KeptName &name);
// Nothing: not a name of ours, or of a version that had other names.
std::optional<KeptName> parse_kept_name(std::string_view text);

// The parent of engines, of this daemon or of a former one.
struct Zygote {
    KeptName name;
    std::string version;  // of its program
    UniqueFd control;
    bool is_own = false;  // this daemon has started it
    EventSource readable = {};
    std::optional<EngineGroups> groups = {};  // none: its engines have no limits
    std::optional<Meters> meters = {};
};

class EngineHost final : public EngineParent {
public:
    ~EngineHost() = default;
    EngineHost(const EngineHost &) = delete;
    EngineHost &operator=(const EngineHost &) = delete;

    // Runs `program` as the zygote, and takes over those that `service` has kept. `lost` is called if one ends: its
    // engines then end too, and so should the daemon.
    static Result<std::unique_ptr<EngineHost>> start(EventLoop &loop, const std::string &program,
                                                     ServiceManager &service, std::function<void()> lost);

    // engine_ready follows. `observer` outlives the returned object.
    Result<std::unique_ptr<EngineProcess>> start_engine(DeviceId device, const Uuid &uuid, TpmVersion version,
                                                        UniqueFd state_channel, EngineObserver &observer,
                                                        Beginning beginning = Beginning::kPowerOn,
                                                        const Incarnation &incarnation = {});
    // The engine that a former daemon has left for this device: engine_status follows. Null: there is none.
    std::unique_ptr<EngineProcess> adopt(DeviceId device, const Uuid &uuid, EngineObserver &observer);
    // Stops what a former daemon has left and no device has adopted: their guests went while there was no daemon.
    void stop_unclaimed();
    // Stops all engines; `stopped` is called when the last has ended. No EngineProcess is left.
    void stop_all(std::function<void()> stopped);
    [[nodiscard]] std::size_t count() const { return running_.size(); }
    // So many more have descriptors and processes. (Memory is the host's matter: an engine needs about one MiB.)
    [[nodiscard]] std::size_t room() const;
    // Each with the number of its engines.
    [[nodiscard]] std::vector<std::pair<KeptName, std::size_t>> zygotes() const;

private:
    struct Unclaimed {
        LivingEngine engine;
        UniqueFd control;
    };
    struct Running {
        Zygote *zygote;
        std::uint32_t uid;
        EngineProcess *process = nullptr;                // null: nobody waits for its end
        std::unique_ptr<Unclaimed> unclaimed = nullptr;  // left by a former daemon, and not yet adopted
    };

    void release(std::uint32_t engine) override { order(engine, ReleaseEngine{engine}); }
    void kill(std::uint32_t engine) override { order(engine, KillEngine{engine}); }
    void forget(std::uint32_t engine) override;
    [[nodiscard]] std::optional<MeterReading> meter(std::uint32_t engine, std::uint32_t page) const override;

    EngineHost(EventLoop &loop, UniqueFd program, ServiceManager &service, std::function<void()> lost);
    // One that is not in use yet: systemd is asked to keep it.
    struct Coming {
        KeptName name;
        UniqueFd control;
        std::unique_ptr<ServiceManager::Request> asked = {};
    };
    Result<Coming> spawn() const;
    Result<> start_zygote();
    Result<> use(Coming zygote);
    void renew_zygote();
    void has_scope(const Result<> &given);
    void renewed();
    void ended(Zygote &zygote);
    void take_over(KeptDescriptor kept);
    Result<> try_take_over(KeptDescriptor &kept);
    Result<> list_engines(Zygote &zygote);
    Result<> serve(Zygote &zygote);
    void receive(Zygote &zygote);
    static void read_meters(Zygote &zygote, const UniqueFd &file);
    void started(const EngineStarted &report);
    void living(Zygote &zygote, const LivingEngine &engine, UniqueFd control);
    void exited(Zygote &zygote, const EngineExited &report);
    std::size_t engines_of(const Zygote &zygote) const;
    template <typename Message>
    void order(std::uint32_t engine, const Message &message);
    void drop_idle_zygotes();
    void reap_zygotes();
    std::uint32_t free_uid() const;

    EventLoop &loop_;
    // As it was when this daemon was started: an upgrade may have put another one in its place.
    UniqueFd program_;
    ServiceManager &service_;
    std::function<void()> lost_;
    std::list<Zygote> zygotes_;  // new engines come from the last, which is this daemon's own
    std::optional<Coming> coming_;
    std::vector<pid_t> dropped_;  // zygotes that this daemon has started, and let go
    std::uint32_t next_id_ = 1;
    std::uint32_t first_uid_;
    std::map<std::uint32_t, Running> running_;
    Allowance may_renew_;
    bool started_ = false;  // all zygotes of former daemons are taken over
    std::function<void()> stopped_;
    EventSource stop_limit_;
};

}  // namespace vtpm
