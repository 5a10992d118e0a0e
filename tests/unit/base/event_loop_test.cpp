// SPDX-License-Identifier: Apache-2.0
#include "base/event_loop.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <optional>
#include "tests/catch.hpp"

#include "base/seqpacket.hpp"

namespace vtpm {
namespace {

void run_once(EventLoop &loop) { REQUIRE(sd_event_run(loop.raw(), 20'000) >= 0); }

}  // namespace

TEST_CASE("a descriptor that is closed in its own callback is not watched any more, whoever has a duplicate") {
    struct Connection {
        UniqueFd socket;
        EventSource readable;
    };
    EventLoop loop = std::move(*EventLoop::create());
    auto ends = make_seqpacket_pair();
    REQUIRE(ends);
    const UniqueFd duplicate(::fcntl(ends->ours.get(), F_DUPFD_CLOEXEC, 3));
    std::optional<Connection> connection(Connection{std::move(ends->ours), {}});
    int called = 0;
    auto source = loop.on_readable(connection->socket.get(), [&] {
        ++called;
        connection.reset();
    });
    REQUIRE(source);
    connection->readable = std::move(*source);
    REQUIRE(send_message(ends->theirs.get(), Bytes{1}));
    for (int i = 0; i < 10; ++i) run_once(loop);
    CHECK(called == 1);
}

}  // namespace vtpm
