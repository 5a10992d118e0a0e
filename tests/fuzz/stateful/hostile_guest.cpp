// SPDX-License-Identifier: Apache-2.0
// A hostile guest, its toolstack, a manager and a daemon that come and go, and a guest next to it that must not notice.
// The daemon's devices, the zygote and the engines are real; xenstore, manager and rings are fakes. One input is the
// life of one guest; each of its bytes, or a few of them, are a step: docs/testing.md.
#include <csignal>

#include "tests/fuzz/stateful/quiet_log.hpp"
#include "tests/fuzz/stateful/world.hpp"

namespace vtpm {
namespace {

using namespace std::string_view_literals;

class Life {
public:
    Life(World &world, QuietLog &log, ByteView input) : world_(world), host_(world.host), log_(log), input_(input) {}

    void live() {
        log_.clear();
        world_.attach(kHostile);
        if (input_.below(4) != 0) come_up();
        while (!input_.empty()) step();
        check_log();
        world_.end_life();
    }

private:
    using Action = void (Life::*)();
    struct Choice {
        unsigned below;  // of 256
        Action action;
    };

    void step() {
        constexpr std::array kChoices{
            Choice{124, &Life::use_page},      Choice{138, &Life::write_own_key}, Choice{154, &Life::initialise},
            Choice{160, &Life::connect},       Choice{166, &Life::flap},          Choice{171, &Life::remove_own_key},
            Choice{174, &Life::write_strange}, Choice{198, &Life::run_daemon},    Choice{212, &Life::run_for_a_while},
            Choice{234, &Life::use_tpm},       Choice{237, &Life::handshake},     Choice{240, &Life::look_at_neighbour},
            Choice{243, &Life::second_device}, Choice{245, &Life::detach},        Choice{248, &Life::attach_again},
            Choice{251, &Life::revive},        Choice{256, &Life::rare},
        };
        const unsigned number = input_.byte();
        for (const Choice &choice : kChoices)
            if (number < choice.below) return (this->*choice.action)();
    }
    // What takes milliseconds.
    void rare() {
        constexpr std::array<std::pair<const char *, Action>, 7> kChoices{{
            {"the manager is restarted", &Life::restart_manager},
            {"the daemon is restarted", &Life::restart_daemon},
            {"the engine is killed", &Life::kill_engine},
            {"the device is removed", &Life::remove_at_once},
            {"the guest is power cycled", &Life::power_cycle},
            {"the guest is suspended, or not any more", &Life::suspend_itself},
            {"the guest is saved and restored", &Life::save_and_restore},
        }};
        const std::size_t number = input_.below(64);
        if (number >= kChoices.size()) return;
        const auto &[what, action] = kChoices[number];
        log::info("step {}: {}; its engine is {}, it has extended in {}", steps_done, what, engine_pid(), extended_);
        (this->*action)();
    }

    // ---- the guest ----

    void use_page() {
        ++steps_done;
        world_.page.act(input_);
    }
    void write_own(const std::string &key, const std::string &value) {
        ++steps_done;
        host_.xenstore.write(frontend_path(kHostile) + "/" + key, value);
    }
    void write_own_key() {
        static const std::array<std::string, 5> kKeys{"state", "state", "ring-ref", "event-channel",
                                                      "feature-protocol-v2"};
        static constexpr std::array kValues{"0"sv,          "1"sv,          "2"sv,      "3"sv,   "4"sv,  "5"sv,
                                            "6"sv,          "7"sv,          "8"sv,      "9"sv,   "21"sv, "666"sv,
                                            ""sv,           "-1"sv,         "3 "sv,     "0x3"sv, "03"sv, "3\0"sv,
                                            "4294967295"sv, "4294967299"sv, "../../0"sv};
        const std::string &key = input_.one_of(kKeys);
        if (key == "state" || input_.below(8) == 0) return write_own(key, std::string(input_.one_of(kValues)));
        write_own(key, key == "feature-protocol-v2" ? "1" : std::string(kValues[8 + input_.below(3)]));
    }
    // As Linux does, but at any time.
    void initialise() {
        ++steps_done;
        host_.frontend_initialised(kHostile, static_cast<std::uint32_t>(8 + input_.below(2)));
    }
    void connect() { write_own("state", "4"); }
    void flap() {
        for (std::size_t i = input_.below(16); i < 16; ++i) write_own("state", std::to_string(1 + input_.below(6)));
    }
    void remove_own_key() {
        static const std::array<std::string, 8> kKeys{
            "/state", "/state", "/state", "/backend", "/ring-ref", "/event-channel", "/feature-protocol-v2", ""};
        ++steps_done;
        (void)host_.xenstore.remove(frontend_path(kHostile) + input_.one_of(kKeys));
    }
    // What a guest may write, and who trusts it would follow (XSA-175).
    void write_strange() {
        static const std::array<std::string, 5> kKeys{"backend", "backend-id", "frontend", "state/state", "uuid"};
        static const std::array<std::string, 4> kValues{backend_path(0, kNeighbour), "8", frontend_path(kNeighbour),
                                                        std::string(4000, 'x')};
        const std::string &key = input_.one_of(kKeys);
        write_own(key, input_.one_of(kValues));
    }
    void use_tpm() {
        if (!world_.is_connected()) return;
        ++steps_done;
        const std::uint32_t engine = engine_pid();
        const bool extend = input_.below(4) == 0;
        const Bytes response =
            world_.exchange(world_.page, extend ? commands::pcr_extend(kPcr, input_.byte()) : commands::pcr_read(kPcr));
        if (response.empty()) return require(!world_.is_connected(), "a connected guest is answered");
        // A removed device's engine may have answered, which the daemon then ends.
        if (!world_.ok(response) || engine == 0 || engine != engine_pid() || engine == ordered_off_) return;
        if (extend)
            extended_ = engine;
        else
            require(extended_ != engine || commands::pcr_value(response) != Bytes(32, 0), "no PCR is zero again");
    }
    std::uint32_t engine_pid() {
        const auto device = host_.backend->devices().find(kHostile);
        return device == host_.backend->devices().end() ? 0 : device->second->engine_pid();
    }

    // ---- what runs meanwhile, and what must be true ----

    void run_daemon() { world_.turns(input_.below(8)); }
    void run_for_a_while() {
        (void)sd_event_run(host_.loop.raw(), input_.byte() * std::uint64_t{8});
        world_.turns(8);
    }
    void look_at_neighbour() {
        if (input_.below(4) == 0) world_.check_neighbour();
    }
    // 5, 6 and 1 are answered, in whatever state the device is; and whatever the frontend did before, the next is
    // served.
    void handshake() {
        if (input_.below(4) != 0 || !is_ours()) return;
        const auto becomes = [&](const std::string &state, const std::string &otherwise) {
            return host_.run_until([&] {
                const std::string own = host_.own_state(kHostile);
                return own == state || own == otherwise || own == "none";
            });
        };
        write_own("state", "5");
        world_.require_of(kHostile, becomes("5", "6"), "5 is answered");
        write_own("state", "6");
        world_.require_of(kHostile, becomes("6", "6"), "6 is answered");
        write_own("state", "1");
        world_.require_of(kHostile, host_.run_until([&] {
            const std::string own = host_.own_state(kHostile);
            return own == "2" || own == "none" || (own == "6" && may_have_failed());
        }),
                          "1 is answered");
        if (host_.own_state(kHostile) != "2") return;
        ++steps_done;
        host_.frontend_initialised(kHostile);
        world_.require_of(kHostile, host_.run_until([&] {
            const std::string own = host_.own_state(kHostile);
            return own == "4" || own == "none" || may_have_failed() || world_.is_attached(kSecond);
        }),
                          "a frontend that starts over is served");
    }
    // Its guest alone cannot make it fail.
    bool may_have_failed() { return may_end() && host_.status(kHostile) == "failed"; }
    // The engine, without having been told to.
    bool may_end() const { return disturbed_ || life_ > 1; }
    // Attached, and not told to leave.
    bool is_ours() {
        return world_.is_attached(kHostile) && host_.xenstore.read(backend_path(0, kHostile) + "/online") == "1" &&
               host_.own_state(kHostile) != "none";
    }
    // The hostile guest's engine ends when it is told to, and only then; one that is to resume may find nothing to.
    void check_log() {
        for (const char *words : {"runtime error", "Sanitizer", "a malformed message", "a forbidden system call",
                                  "the engine exited", "the engine was ended"}) {
            const bool may = disturbed_ || (life_ > 1 && words == "the engine exited"sv);
            require(!log_.says(words) || (may && !log_.says("Sanitizer")), words);
        }
    }

    // ---- the toolstack, and others ----

    void second_device() {
        ++steps_done;
        if (world_.is_attached(kSecond)) return host_.remove(kSecond);
        world_.attach(kSecond);
        host_.frontend_state(kSecond, static_cast<int>(input_.below(7)));
    }
    void detach() {
        if (input_.below(8) != 0 || !world_.is_attached(kHostile) || host_.own_state(kHostile) == "none") return;
        ++steps_done;
        order_off();
        host_.detach(kHostile);
    }
    // The next one is another TPM, even if the daemon has not noticed yet that this one is to go, and it still answers.
    void order_off() {
        extended_ = 0;
        ordered_off_ = engine_pid();
    }
    void attach_again() {
        if (world_.is_attached(kHostile) && host_.own_state(kHostile) != "6") return;
        ++steps_done;
        if (world_.is_attached(kHostile) && host_.xenstore.read(backend_path(0, kHostile) + "/online") == "1") return;
        order_off();
        host_.remove(kHostile);
        world_.attach(kHostile);
    }
    void restart_manager() {
        ++steps_done;
        disturbed_ = true;
        world_.manager.stop();
        world_.turns(input_.below(16));
        world_.manager.start();
    }
    void restart_daemon() {
        ++steps_done;
        host_.daemon_dies();
        require(host_.start().has_value(), "a daemon starts");
    }
    void kill_engine() {
        const std::uint32_t engine = engine_pid();
        if (engine == 0) return;
        ++steps_done;
        disturbed_ = true;
        (void)::kill(static_cast<pid_t>(engine), SIGKILL);
    }
    void remove_at_once() {
        ++steps_done;
        order_off();
        host_.remove(kHostile);
    }
    // Every guest may say that its memory is to be saved, and nobody may have asked for that.
    void suspend_itself() {
        ++steps_done;
        bool &suspended = host_.domains.facts(kHostile.domain).suspended;
        suspended = !suspended;
    }
    // As xl does. What the TPM cannot keep, the restored guest has not: it never finds PCRs that are zero again.
    void save_and_restore() {
        ++steps_done;
        const bool extended = extended_ != 0 && extended_ == engine_pid();
        host_.domains.facts(kHostile.domain).suspended = true;
        world_.leave(kHostile);
        host_.domains.build(kHostile.domain, ++life_);
        world_.attach(kHostile);
        come_up();
        if (extended) extended_ = engine_pid();
    }
    void power_cycle() {
        ++steps_done;
        world_.leave(kHostile);
        host_.domains.build(kHostile.domain);
        world_.attach(kHostile);
        if (input_.below(4) != 0) come_up();
    }
    // Of a device that is of no use any more, so that not all of a life is spent on it.
    void revive() {
        const std::string status = host_.status(kHostile);
        if (status == "failed" || status == "no such device" || !is_ours()) power_cycle();
    }
    // As a guest does that is well-behaved until then; what others have done may keep it from that.
    void come_up() {
        const auto is = [&](const char *state) {
            return [this, state] {
                const std::string own = host_.own_state(kHostile);
                return own == state || own == "none" || host_.status(kHostile) == "failed";
            };
        };
        (void)host_.run_until(is("2"), std::chrono::seconds(1));
        host_.frontend_initialised(kHostile);
        (void)host_.run_until(is("4"), std::chrono::seconds(1));
        host_.frontend_state(kHostile, 4);
    }

    World &world_;
    Host &host_;
    QuietLog &log_;
    Input input_;
    std::uint32_t extended_ = 0;     // the engine that has extended the PCR
    std::uint32_t ordered_off_ = 0;  // the engine of a device that was removed, or told to leave
    std::uint32_t life_ = 1;         // of the domain
    bool disturbed_ = false;         // an engine was killed, or may have started without its manager
};

}  // namespace
}  // namespace vtpm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    using namespace vtpm;
    // For as long as the process lives: libFuzzer ends it at any time.
    static QuietLog &log = *new QuietLog;
    static World &world = *new World;
    Life(world, log, {data, size}).live();
    return 0;
}
