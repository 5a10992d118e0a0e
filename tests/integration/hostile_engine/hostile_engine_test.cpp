// SPDX-License-Identifier: Apache-2.0
// What an engine that was taken over gets: nothing. Each attempt with the system call filter, which ends the engine,
// and without it: then the namespaces, Landlock, the user and the limits refuse.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <optional>
#include "tests/catch.hpp"

#include "backend/device/engine_host.hpp"
#include "tests/fakes/fake_service_manager.hpp"
#include "tests/fakes/standard_error.hpp"
#include "tests/integration/hostile_engine/attempts.hpp"

namespace vtpm {
namespace {

constexpr key_t kHostSharedMemory = VTPM_HOST_SHM;
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;  // the filter then has the sanitizers' own calls, openat among them
#else
constexpr bool kSanitized = false;
#endif

struct Attacker final : EngineObserver {
    void engine_ready(const Result<> &started) override { said = started ? "done" : started.error().text; }
    void engine_status(const EngineStatus &) override {}
    void ring_attached(const Result<> &) override {}
    void ring_detached() override {}
    void state_channel_changed(const Result<> &) override { ++reports; }
    void engine_exited(const std::string &how, ExitKind) override { ended = how; }

    std::unique_ptr<EngineProcess> engine;
    std::optional<std::string> said;
    std::optional<std::string> ended;
    int reports = 0;
};

class Battlefield {
public:
    explicit Battlefield(const char *program)
        : engines_(std::move(*EngineHost::start(loop_, program, service_, [] {}))) {
        start(victim_, Attempt::kNone, 0);
        REQUIRE(run_until([&] { return victim_.said && victim_.engine->pid() != 0; }));
    }

    // What became of it: "done", an error's name, or how the engine ended.
    std::string outcome(Attempt attempt) {
        Attacker attacker;
        return outcome(attempt, attacker);
    }
    std::string outcome(Attempt attempt, Attacker &attacker) {
        start(attacker, attempt, victim_.engine->pid());
        REQUIRE(run_until([&] { return attacker.said || attacker.ended; }, std::chrono::seconds(60)));
        CHECK_FALSE(victim_.ended);
        std::string result = attacker.said ? *attacker.said : *attacker.ended;
        attacker.engine->stop();
        REQUIRE(run_until([&] { return attacker.ended.has_value(); }));
        return result;
    }

    // Where a new engine has its program.
    std::string addresses() {
        Attacker waiting;
        wait_for_orders(waiting);
        std::string first = addresses_of(waiting);
        waiting.engine->stop();
        REQUIRE(run_until([&] { return waiting.ended.has_value(); }));
        return first;
    }
    void wait_for_orders(Attacker &attacker) {
        start(attacker, Attempt::kNone, 0);
        REQUIRE(run_until([&] { return attacker.said && attacker.engine->pid() != 0; }));
    }
    std::string end_of(Attacker &attacker) {
        REQUIRE(run_until([&] { return attacker.ended.has_value(); }));
        return *attacker.ended;
    }
    std::string victims_addresses() { return addresses_of(victim_); }
    [[nodiscard]] std::size_t zygotes() const { return service_.store.size(); }

private:
    static std::string addresses_of(const Attacker &engine) {
        std::ifstream maps(fmt::format("/proc/{}/maps", engine.engine->pid()));
        for (std::string line; std::getline(maps, line);)
            if (line.find("hostile-engine") != std::string::npos) return line.substr(0, line.find(' '));
        return {};
    }
    void start(Attacker &attacker, Attempt attempt, std::uint32_t victim) {
        // After a crash it waits for the next zygote.
        REQUIRE(run_until([&] {
            auto channel = make_seqpacket_pair();
            REQUIRE(channel);
            auto engine = engines_->start_engine({victim, static_cast<std::uint32_t>(attempt)}, Uuid::random(),
                                                 TpmVersion::k20, std::move(channel->theirs), attacker);
            if (!engine) return false;
            manager_ends_.push_back(std::move(channel->ours));
            attacker.engine = std::move(*engine);
            return true;
        }));
    }

    template <typename Done>
    bool run_until(Done done, std::chrono::milliseconds limit = std::chrono::seconds(20)) {
        const auto deadline = std::chrono::steady_clock::now() + limit;
        while (!done()) {
            if (std::chrono::steady_clock::now() > deadline) return false;
            (void)sd_event_run(loop_.raw(), 20'000);
        }
        return true;
    }

    EventLoop loop_ = std::move(*EventLoop::create());
    FakeServiceManager service_;
    std::vector<UniqueFd> manager_ends_;
    std::unique_ptr<EngineHost> engines_;
    Attacker victim_;
};

const std::vector<std::pair<Attempt, const char *>> kRefusedByAll{
    {Attempt::kOpenFile, "open a file"},
    {Attempt::kOpenDirectory, "open a directory"},
    {Attempt::kOpenProc, "open /proc"},
    {Attempt::kOpenDevice, "open a device"},
    {Attempt::kMakeFile, "make a file"},
    {Attempt::kReachManager, "reach the manager"},
    {Attempt::kReachAbstractSocket, "reach an abstract socket"},
    {Attempt::kReachNetwork, "reach the network"},
    {Attempt::kUseForeignDescriptor, "use another engine's descriptor"},
    {Attempt::kSignalVictim, "signal another engine"},
    {Attempt::kSignalAll, "signal all"},
    {Attempt::kTraceVictim, "trace another engine"},
    {Attempt::kReadVictim, "read another engine's memory"},
    {Attempt::kOpenVictim, "open another engine's pidfd"},
    {Attempt::kExecute, "execute a program"},
    {Attempt::kFork, "fork"},
    {Attempt::kBecomeRoot, "become root"},
    {Attempt::kMount, "mount"},
    {Attempt::kEnterNamespace, "enter a mount namespace"},
    {Attempt::kLoadModule, "load a kernel module"},
    {Attempt::kDumpCore, "dump core"},
    {Attempt::kSharedMemory, "attach shared memory of the host"},
    {Attempt::kManyDescriptors, "take many descriptors"},
};
const std::vector<std::pair<Attempt, const char *>> kRefusedByFilter{
    {Attempt::kMapCode, "map code"},
    {Attempt::kBindEventChannel, "bind an event channel"},
    {Attempt::kMapGrant, "map a grant"},
    {Attempt::kEnterUserNamespace, "enter a user namespace"},
};

// What there is to be reached: so that the attempts fail for the right reason.
struct Host {
    Host() : shared_memory(::shmget(kHostSharedMemory, 4096, IPC_CREAT | 0666)) {
        REQUIRE(shared_memory >= 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, "\0xen-vtpm-test-abstract", 23);
        listener = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        REQUIRE(::bind(listener.get(), reinterpret_cast<const sockaddr *>(&address),
                       offsetof(sockaddr_un, sun_path) + 23) == 0);
        REQUIRE(::listen(listener.get(), 1) == 0);
    }
    ~Host() { (void)::shmctl(shared_memory, IPC_RMID, nullptr); }

    int shared_memory;
    UniqueFd listener;
};

// What this process, and who it starts meanwhile, says on stderr.
class Overheard {
public:
    [[nodiscard]] std::vector<std::string> lines() const {
        std::ifstream file(fmt::format("/proc/self/fd/{}", file_.get()));
        std::vector<std::string> lines;
        for (std::string line; std::getline(file, line);) lines.push_back(line);
        return lines;
    }

private:
    UniqueFd file_{::memfd_create("stderr", MFD_CLOEXEC)};
    StandardErrorTo to_file_{file_};
};

}  // namespace

TEST_CASE("an engine that turns hostile is ended by its filter at the first forbidden call") {
    Host host;
    Battlefield field(VTPM_FILTERED_ENGINE);
    for (const auto &attempts : {kRefusedByAll, kRefusedByFilter})
        for (const auto &[attempt, name] : attempts) {
            INFO(name);
            const std::string outcome = field.outcome(attempt);
            INFO(outcome);
            const bool ended =
                outcome == "the engine was ended by signal 31 (Bad system call): a forbidden system call";
            CHECK((ended || (kSanitized && outcome.starts_with("E"))));
        }
}

TEST_CASE("an engine after one that has crashed does not have its addresses, and those that run go on") {
    Battlefield field(VTPM_FILTERED_ENGINE);
    CHECK_FALSE(field.victims_addresses().empty());
    CHECK(field.addresses() == field.victims_addresses());
    std::string randomised;
    std::ifstream("/proc/sys/kernel/randomize_va_space") >> randomised;
    const auto crash = [&] {
        REQUIRE(field.outcome(Attempt::kBindEventChannel).find("signal 31") != std::string::npos);
    };
    crash();
    CHECK((field.addresses() != field.victims_addresses() || randomised == "0"));
    CHECK(field.zygotes() == 2);  // the victim's, and the last
    const std::string before = field.addresses();
    crash();  // within a minute
    CHECK(field.addresses() == before);
    Attacker attacker;
    CHECK(field.outcome(Attempt::kFloodDaemon, attacker) == "the engine was ended by signal 9 (Killed)");
    CHECK(field.addresses() == before);  // by our own hand
}

TEST_CASE("without the filter, too, an engine reaches nothing beyond itself") {
    Host host;
    Battlefield field(VTPM_UNFILTERED_ENGINE);
    for (const auto &[attempt, name] : kRefusedByAll) {
        const std::string outcome = field.outcome(attempt);
        INFO(name << ": " << outcome);
        CHECK(outcome.starts_with("E"));  // an errno's name
    }
}

TEST_CASE("a command that never ends ends its engine, with the reason") {
    Battlefield field(VTPM_UNFILTERED_ENGINE);
    CHECK(field.outcome(Attempt::kComputeForever) == "the engine was ended: a command of the guest took too long");
}

TEST_CASE("an engine that says to the daemon what it was not asked for is ended") {
    Battlefield field(VTPM_FILTERED_ENGINE);
    Attacker attacker;
    CHECK(field.outcome(Attempt::kFloodDaemon, attacker) == "the engine was ended by signal 9 (Killed)");
    CHECK(attacker.reports <= 2);
}

TEST_CASE("an engine that does not read what it is told is ended, and nobody waits for it") {
    Battlefield field(VTPM_FILTERED_ENGINE);
    Attacker deaf;
    field.wait_for_orders(deaf);
    REQUIRE(::kill(static_cast<pid_t>(deaf.engine->pid()), SIGSTOP) == 0);
    (void)::alarm(60);  // who waits for it waits without end
    // As when it says again and again that its channel is lost.
    for (int i = 0; i < 1000; ++i) deaf.engine->replace_state_channel(UniqueFd(::dup(STDERR_FILENO)));
    (void)::alarm(0);
    CHECK(field.end_of(deaf) == "the engine was ended by signal 9 (Killed)");
    CHECK(field.outcome(Attempt::kNone) == "done");
}

TEST_CASE("what an engine says is told in its own name only, and not without end") {
    std::vector<std::string> lines;
    {
        const Overheard overheard;
        Battlefield field(VTPM_FILTERED_ENGINE);
        CHECK(field.outcome(Attempt::kFloodJournal) == "done");
        lines = overheard.lines();
    }
    const auto of_an_engine = [](const std::string &line) {
        return line.starts_with("<3>vTPM ") || line.starts_with("<4>vTPM ");
    };
    CHECK(std::ranges::count_if(lines, of_an_engine) == 201);
    CHECK(std::ranges::count_if(lines, [](const std::string &line) {
              return line.find("not heard any more") != std::string::npos;
          }) == 1);
    CHECK(std::ranges::none_of(lines, [&](const std::string &line) {
        return line.find('\x1b') != std::string::npos ||
               (line.find("xen-vtpmd would say") != std::string::npos && !of_an_engine(line));
    }));
}

}  // namespace vtpm
