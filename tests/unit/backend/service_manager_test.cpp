// SPDX-License-Identifier: Apache-2.0
// systemd that does not answer: the real one is in tests/lab.
#include "backend/service_manager.hpp"

#include <cstdlib>
#include <optional>
#include "tests/catch.hpp"

#include "shared-protocol/time_limits.hpp"
#include "tests/unit/hung_socket.hpp"

namespace vtpm {
namespace {

// What it answered.
struct Heard {
    ServiceManager::Done done() {
        return [this](const Result<> &result) { answer = result; };
    }
    std::optional<Result<>> answer;
};

// As systemd starts a service.
struct HungSystemd {
    HungSystemd() {
        bus.listen();
        notify.listen();
        ::setenv("DBUS_SYSTEM_BUS_ADDRESS", ("unix:path=" + bus.path()).c_str(), 1);
        ::setenv("NOTIFY_SOCKET", notify.path().c_str(), 1);
    }
    ~HungSystemd() {
        ::unsetenv("DBUS_SYSTEM_BUS_ADDRESS");
        ::unsetenv("NOTIFY_SOCKET");
    }
    HungSystemd(const HungSystemd &) = delete;
    HungSystemd &operator=(const HungSystemd &) = delete;

    // Its notifications, and the descriptors with them, which are closed.
    void reads_all() const {
        char byte = 0;
        while (::recv(notify.fd(), &byte, 1, MSG_DONTWAIT) >= 0) {}
    }

    HungSocket bus{SOCK_STREAM};
    HungSocket notify{SOCK_DGRAM};
};

constexpr std::chrono::milliseconds kLong = 2 * std::chrono::milliseconds(limits::kServiceManager);

}  // namespace

TEST_CASE("systemd that hangs stops no loop, and is waited for no longer than it may take") {
    const HungSystemd systemd;
    EventLoop loop = std::move(*EventLoop::create());
    Standstill standstill(loop);
    const auto service = make_service_manager();
    Heard scope;
    Heard kept;
    const auto scope_asked = service->give_scope(loop, ::getpid(), scope.done());
    const auto kept_asked = service->keep(loop, "name", systemd.notify.fd(), kept.done());
    REQUIRE(standstill.run_until([&] { return scope.answer && kept.answer; }, kLong));
    CHECK(scope.answer->error().code == ErrorCode::kUnavailable);
    CHECK(kept.answer->error().code == ErrorCode::kUnavailable);
    CHECK(standstill.longest() < std::chrono::seconds(1));
}

TEST_CASE("a connection is kept as soon as systemd has read that it is to be") {
    const HungSystemd systemd;
    EventLoop loop = std::move(*EventLoop::create());
    Standstill standstill(loop);
    const auto service = make_service_manager();
    Heard kept;
    const auto asked = service->keep(loop, "name", systemd.notify.fd(), kept.done());
    CHECK_FALSE(standstill.run_until([&] { return kept.answer.has_value(); }, std::chrono::milliseconds(200)));
    systemd.reads_all();
    REQUIRE(standstill.run_until([&] { return kept.answer.has_value(); }, kLong));
    CHECK(*kept.answer);
}

TEST_CASE("nobody is told what he does not wait for any more") {
    const HungSystemd systemd;
    EventLoop loop = std::move(*EventLoop::create());
    Standstill standstill(loop);
    const auto service = make_service_manager();
    Heard kept;
    Heard scope;
    service->keep(loop, "name", systemd.notify.fd(), kept.done()).reset();
    service->give_scope(loop, ::getpid(), scope.done()).reset();
    systemd.reads_all();
    CHECK_FALSE(standstill.run_until([&] { return kept.answer || scope.answer; }, std::chrono::milliseconds(200)));
    CHECK(standstill.longest() < std::chrono::seconds(1));
}

}  // namespace vtpm
