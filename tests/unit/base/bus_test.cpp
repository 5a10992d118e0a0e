// SPDX-License-Identifier: Apache-2.0
#include "base/bus.hpp"

#include <poll.h>

#include <cstdlib>
#include "tests/catch.hpp"

#include "tests/unit/hung_socket.hpp"

namespace vtpm {

TEST_CASE("a bus that comes back and hangs does not stop the loop") {
    HungSocket bus(SOCK_STREAM);
    ::setenv("DBUS_SYSTEM_BUS_ADDRESS", ("unix:path=" + bus.path()).c_str(), 1);
    EventLoop loop = std::move(*EventLoop::create());
    Standstill standstill(loop);
    {
        int reports = 0;
        bus::Server server(loop, {"org.xenvtpm.Test1", "/org/xenvtpm/Test1", "org.xenvtpm.Test1"}, {},
                           [&](const std::string &) { ++reports; });
        server.start();
        REQUIRE(reports == 1);  // nobody listens
        bus.listen();
        pollfd waiting{bus.fd(), POLLIN, 0};
        REQUIRE(standstill.run_until([&] { return ::poll(&waiting, 1, 0) == 1; }, std::chrono::seconds(20)));
        (void)standstill.run_until([] { return false; }, std::chrono::seconds(1));
    }
    (void)standstill.run_until([] { return false; }, std::chrono::milliseconds(100));
    CHECK(standstill.longest() < std::chrono::seconds(1));
    ::unsetenv("DBUS_SYSTEM_BUS_ADDRESS");
}

}  // namespace vtpm
