// SPDX-License-Identifier: Apache-2.0
#include "base/seqpacket.hpp"

#include <fcntl.h>
#include <grp.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include "tests/catch.hpp"

namespace vtpm {

TEST_CASE("what a peer said is heard before its end, though it has not read what it was told") {
    auto ends = make_seqpacket_pair();
    REQUIRE(ends);
    const Bytes word{1, 2, 3};
    REQUIRE(send_message(ends->ours.get(), Bytes{9}));
    for (int i = 0; i < 2; ++i) REQUIRE(send_message(ends->theirs.get(), word));
    ends->theirs.reset();
    Bytes buffer(16);
    for (const std::size_t size : {word.size(), word.size(), std::size_t{0}, std::size_t{0}}) {
        const auto received = receive_message(ends->ours.get(), buffer);
        REQUIRE(received);
        CHECK(received->size == size);
    }
}

namespace {

// What unix(7) says of ETOOMANYREFS: a user has more descriptors under way in sockets than he may have open. Only root
// may.
[[noreturn]] void send_more_descriptors_than_may_be_under_way(int socket) {
    const rlimit few{16, 16};
    const int descriptor = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    const bool ready = ::setrlimit(RLIMIT_NOFILE, &few) == 0 && ::setgroups(0, nullptr) == 0 &&
                       ::setresgid(65534, 65534, 65534) == 0 && ::setresuid(65534, 65534, 65534) == 0;
    if (!ready || descriptor < 0) ::_exit(100);
    for (int sent = 0; sent < 40; ++sent)
        if (!send_message(socket, Bytes{1}, {descriptor})) ::_exit(sent);
    ::_exit(40);
}

// How many messages it has sent.
int sent_by(pid_t sender) {
    int status = 0;
    REQUIRE(::waitpid(sender, &status, 0) == sender);
    REQUIRE(WIFEXITED(status));
    return WEXITSTATUS(status);
}

}  // namespace

TEST_CASE("a message that the kernel has no room for is sent when it has") {
    if (::geteuid() != 0) {
        WARN("skipped: root may send what another user may not, and only root can become one");
        return;
    }
    auto ends = make_seqpacket_pair();
    REQUIRE(ends);
    const pid_t sender = ::fork();
    if (sender == 0) send_more_descriptors_than_may_be_under_way(ends->theirs.get());
    REQUIRE(sender > 0);
    ends->theirs.reset();
    SECTION("a peer that reads slowly gets all of them") {
        Bytes buffer(16);
        for (int i = 0; i < 40; ++i) {
            if (i == 17) ::usleep(100'000);  // longer than the sender's first try
            const auto received = receive_message(ends->ours.get(), buffer);
            REQUIRE(received);
            REQUIRE(received->size == 1);
            REQUIRE(received->fds[0]);
        }
        CHECK(sent_by(sender) == 40);
    }
    SECTION("a peer that reads nothing is not waited for without end") {
        const int sent = sent_by(sender);
        CHECK(sent >= 16);
        CHECK(sent < 40);
    }
}

}  // namespace vtpm
