// SPDX-License-Identifier: Apache-2.0
// Shortages pass, and no TPM ends by one. And what costs a thousand guests no more than their number.
#include <seccomp.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <set>
#include "tests/catch.hpp"

#include "backend/engine/sandbox.hpp"
#include "base/seqpacket.hpp"
#include "tests/integration/backend/test_host.hpp"

namespace vtpm {
namespace {

std::size_t open_descriptors(pid_t process) {
    const std::filesystem::directory_iterator all(fmt::format("/proc/{}/fd", process));
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

// Of a process, for a while.
class DescriptorLimit {
public:
    DescriptorLimit(pid_t process, rlim_t limit) : process_(process) {
        REQUIRE(::prlimit(process, RLIMIT_NOFILE, nullptr, &former_) == 0);
        const rlimit low{limit, former_.rlim_max};
        REQUIRE(::prlimit(process, RLIMIT_NOFILE, &low, nullptr) == 0);
    }
    ~DescriptorLimit() { (void)::prlimit(process_, RLIMIT_NOFILE, &former_, nullptr); }
    DescriptorLimit(const DescriptorLimit &) = delete;
    DescriptorLimit &operator=(const DescriptorLimit &) = delete;

private:
    pid_t process_;
    rlimit former_{};
};

// By the name under which the service manager keeps its connection.
pid_t zygote_of(const TestHost &host) {
    const std::string &name = host.service.store.begin()->first;
    return std::stoi(name.substr(name.rfind('-') + 1));
}

}  // namespace

TEST_CASE("the zygote may be out of descriptors: who lives goes on, who comes waits") {
    TestHost host;
    LoopbackGuest living;
    host.bring_up(kDevice, kUuid, living);
    CHECK(rc(host.execute(living, commands::pcr_extend(10, 0xab))) == 0);
    const Bytes pcr = commands::pcr_value(host.execute(living, commands::pcr_read(10)));
    const pid_t zygote = zygote_of(host);
    const std::size_t used = open_descriptors(zygote);
    LoopbackGuest coming;
    const Uuid other = Uuid::random();
    {
        // None of the order's descriptors; some of them; all, but no pipe.
        const DescriptorLimit limit(zygote, used + GENERATE(0U, 2U, 3U));
        host.offer(kOther, other, coming);
        host.frontend_initialised(kOther);
        REQUIRE(host.run_until([&] { return host.reason(kOther).find("descriptors") != std::string::npos; }));
        host.run_for(std::chrono::milliseconds(600));
        CHECK(host.own_state(kOther) == "2");
        CHECK(commands::pcr_value(host.execute(living, commands::pcr_read(10))) == pcr);
    }
    REQUIRE(host.reaches(kOther, "4"));
    host.frontend_state(kOther, 4);
    CHECK(rc(host.execute(coming, commands::get_random())) == 0);
    CHECK(host.reason(kOther).empty());
    CHECK(commands::pcr_value(host.execute(living, commands::pcr_read(10))) == pcr);
    CHECK(open_descriptors(zygote) <= used + 2);  // a second engine's control socket and log
}

TEST_CASE("an engine that the kernel kills before a guest has had its TPM is started again") {
    TestHost host;
    LoopbackGuest guest;
    host.offer(kDevice, kUuid, guest);
    host.frontend_initialised(kDevice);
    const pid_t first = host.engine_pid(kDevice);  // it waits for the manager, which answers in our loop
    REQUIRE(::kill(first, SIGKILL) == 0);
    REQUIRE(host.run_until([&] { return host.reason(kDevice).find("signal 9") != std::string::npos; }));
    REQUIRE(host.reaches(kDevice, "4"));
    host.frontend_state(kDevice, 4);
    CHECK(host.engine_pid(kDevice) != first);
    CHECK(host.reason(kDevice).empty());
    CHECK(rc(host.execute(guest, commands::get_random())) == 0);
}

TEST_CASE("a ring that cannot be opened for want of memory is opened later, with the TPM as it was") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    CHECK(rc(host.execute(guest, commands::pcr_extend(10, 0xab))) == 0);
    const Bytes pcr = commands::pcr_value(host.execute(guest, commands::pcr_read(10)));
    host.frontend_state(kDevice, 6);
    REQUIRE(host.reaches(kDevice, "6"));
    host.rings.short_of_memory = true;
    host.frontend_initialised(kDevice, 21);
    host.run_for(std::chrono::milliseconds(700));
    CHECK(host.status(kDevice) == "running, not connected");
    host.rings.short_of_memory = false;
    REQUIRE(host.reaches(kDevice, "4"));
    host.frontend_state(kDevice, 4);
    CHECK(commands::pcr_value(host.execute(guest, commands::pcr_read(10))) == pcr);
}

TEST_CASE("a guest gets no TPM of which the next daemon would not know") {
    TestHost host;
    LoopbackGuest guest;
    host.offer(kDevice, kUuid, guest);
    host.xenstore.refused_key = "powered-on";
    host.frontend_initialised(kDevice);
    REQUIRE(host.reaches(kDevice, "5"));
    CHECK(host.status(kDevice) == "failed");
    CHECK(host.rings.opened == 0);
}

TEST_CASE("a guest that writes makes nobody try more often") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    host.frontend_state(kDevice, 6);
    REQUIRE(host.reaches(kDevice, "6"));
    host.rings.short_of_memory = true;
    host.rings.tried = 0;
    host.frontend_initialised(kDevice, 21);
    for (int i = 0; i < 40; ++i) {
        host.frontend_state(kDevice, 3);
        host.run_for(std::chrono::milliseconds(20));
    }
    CHECK(host.rings.tried >= 2);
    CHECK(host.rings.tried <= 8);  // in some seconds, on a machine that is busy
}

TEST_CASE("a manager may be away for longer than anybody thought") {
    TestHost host;
    LoopbackGuest guest;
    host.offer(kDevice, kUuid, guest);
    host.manager.stop();
    host.run_for(std::chrono::milliseconds(50));
    host.frontend_initialised(kDevice);
    host.run_for(std::chrono::seconds(22));
    CHECK(host.status(kDevice) != "failed");
    host.manager.start();
    REQUIRE(host.reaches(kDevice, "4"));
}

TEST_CASE("a manager that accepts nobody stops no device") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    host.manager.stop();
    const auto hangs = listen_seqpacket(host.socket_path, 0600);
    REQUIRE(hangs);
    REQUIRE(::listen(hangs->get(), 0) == 0);
    const auto first = connect_seqpacket(host.socket_path);  // and nobody else
    REQUIRE(first);
    (void)::alarm(60);                      // who waits for it waits without end
    host.run_for(std::chrono::seconds(1));  // it is tried four times a second
    host.frontend_state(kDevice, 6);
    REQUIRE(host.reaches(kDevice, "6"));
    host.frontend_initialised(kDevice, 21);
    REQUIRE(host.reaches(kDevice, "4"));
    (void)::alarm(0);
}

TEST_CASE("a zygote that has much to say to a daemon that does not listen goes on taking its orders") {
    auto ends = make_seqpacket_pair();
    REQUIRE(ends);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends->theirs.get(), 3);
    std::string name = "xen-vtpm-engine";
    char *arguments[] = {name.data(), nullptr};
    char *environment[] = {nullptr};
    pid_t zygote = 0;
    REQUIRE(::posix_spawn(&zygote, VTPM_ENGINE_PROGRAM, &actions, nullptr, arguments, environment) == 0);
    posix_spawn_file_actions_destroy(&actions);
    ends->theirs.reset();
    // Its answer says that it has started.
    std::array<std::uint8_t, kMaxSmallMessage> buffer;
    REQUIRE(send(ends->ours.get(), ListEngines{1}));
    REQUIRE(wait_readable(ends->ours.get(), std::chrono::seconds(20)));
    REQUIRE(receive_message(ends->ours.get(), buffer));

    constexpr std::uint32_t kOrders = 800;  // a socket takes some 280 messages
    const timeval limit{20, 0};
    REQUIRE(::setsockopt(ends->ours.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
    for (std::uint32_t engine = 1; engine <= kOrders; ++engine) {
        StartEngine order;
        order.engine = engine;
        order.uid = 1'900'000'000;  // without descriptors it ends at once
        REQUIRE(send(ends->ours.get(), order));
    }
    std::set<std::uint32_t> reported;
    while (reported.size() < kOrders) {
        REQUIRE(wait_readable(ends->ours.get(), std::chrono::seconds(20)));
        const auto received = receive_message(ends->ours.get(), buffer);
        REQUIRE(received);
        if (const auto report = decode<EngineExited>(ByteView(buffer).first(received->size)))
            reported.insert(report->engine);
    }
    ends->ours.reset();
    int status = 0;
    CHECK(::waitpid(zygote, &status, 0) == zygote);
    CHECK(status == 0);
}

TEST_CASE("an order that nobody understands costs no TPM but its own") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    const int zygote = host.service.store.begin()->second.get();
    REQUIRE(send_message(zygote, Bytes{1}));
    REQUIRE(send(zygote, AskStatus{}));  // an engine's, not a zygote's
    LoopbackGuest coming;
    host.bring_up(kOther, Uuid::random(), coming);
    CHECK(rc(host.execute(guest, commands::get_random())) == 0);
    CHECK(rc(host.execute(coming, commands::get_random())) == 0);
}

TEST_CASE(
    "who cannot return to its PID namespace has its child all the same, and no other one before it has returned") {
    const pid_t parent = ::fork();
    if (parent == 0) {
        auto lonely_fork = LonelyFork::prepare();
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
        const bool short_of_memory =
            seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOMEM), SCMP_SYS(setns), 0) == 0 && seccomp_load(filter) == 0;
        if (!lonely_fork || !short_of_memory) ::_exit(1);
        const auto first = lonely_fork->fork();
        if (first && *first == 0) ::_exit(42);
        int status = 0;
        if (!first || ::waitpid(*first, &status, 0) != *first || WEXITSTATUS(status) != 42) ::_exit(2);
        const auto second = lonely_fork->fork();
        ::_exit(second || second.error().code != ErrorCode::kShortage ? 3 : 0);
    }
    int status = 0;
    REQUIRE(::waitpid(parent, &status, 0) == parent);
    CHECK(status == 0);
}

TEST_CASE("for how many more TPMs there is room is told before they come") {
    TestHost host;
    const std::size_t room = host.engines->room();
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    CHECK(host.engines->room() == room - 1);
    for (const auto &[descriptors, left] : {std::pair<rlim_t, std::size_t>{84, 9}, {66, 0}, {10, 0}}) {
        const DescriptorLimit limit(::getpid(), descriptors);
        CHECK(host.engines->room() == left);
    }
}

TEST_CASE("the end of a guest costs the same, however many there are") {
    TestHost host;
    const auto reads_for_one_end = [&](std::uint32_t first, std::uint32_t guests) {
        for (std::uint32_t domain = first; domain < first + guests; ++domain) {
            host.attach({domain, 0}, Uuid::random());
            REQUIRE(host.reaches({domain, 0}, "2"));
        }
        host.run_for(std::chrono::milliseconds(50));
        const DeviceId one{first, 0};
        const int before = host.xenstore.reads;
        host.detach(one);
        REQUIRE(host.reaches(one, "6"));
        (void)host.xenstore.remove(frontend_path(one));
        (void)host.xenstore.remove(fmt::format("{}/{}", backend_root(0), one.domain));
        REQUIRE(host.run_until([&] { return !host.backend->devices().contains(one); }));
        host.run_for(std::chrono::milliseconds(50));
        return host.xenstore.reads - before;
    };
    const int among_few = reads_for_one_end(100, 4);
    CHECK(reads_for_one_end(200, 100) <= among_few + 2);
}

TEST_CASE("an engine has no descriptors but its own") {
    TestHost host;
    LoopbackGuest guest;
    host.bring_up(kDevice, kUuid, guest);
    const pid_t engine = host.engine_pid(kDevice);
    std::multiset<std::string> kinds;
    for (const auto &entry : std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", engine))) {
        const std::string target = std::filesystem::read_symlink(entry.path());
        const std::string kind = target.substr(0, target.find_first_of(":("));
        const int number = std::stoi(entry.path().filename());
        if (number <= 1) CHECK(target == "/dev/null");
        if (number == 2) CHECK(kind == "pipe");
        kinds.insert(kind);
    }
    // Its streams; the daemon's orders and the state channel; two events of its ring, whose page is mapped.
    CHECK(kinds ==
          std::multiset<std::string>{"/dev/null", "/dev/null", "pipe", "socket", "socket", "anon_inode", "anon_inode"});
}

}  // namespace vtpm
