// SPDX-License-Identifier: Apache-2.0
// xen-vtpm-domains and who asks it; what Xen really says is shown by tests/lab (test_save_restore.py).
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <functional>
#include "tests/catch.hpp"

#include "backend/xen/domains_client.hpp"
#include "backend/xen/domains_server.hpp"
#include "base/seqpacket.hpp"
#include "tests/fakes/fake_domains.hpp"

namespace vtpm {
namespace {

using std::chrono::milliseconds;

const std::string kPath = std::filesystem::temp_directory_path() / ("xen-vtpm-domains-" + std::to_string(::getpid()));
constexpr milliseconds kLimit{200};
constexpr milliseconds kPatient{20'000};  // for an answer that comes, on a machine that is busy

// A process that does something with a listening socket, until the end of the test.
class Listener {
public:
    explicit Listener(const std::function<void(UniqueFd)> &serve) {
        auto listening = listen_seqpacket(kPath, 0600);
        REQUIRE(listening);
        process_ = ::fork();
        if (process_ != 0) return;
        serve(std::move(*listening));
        ::_exit(0);
    }
    ~Listener() {
        (void)::kill(process_, SIGKILL);
        (void)::waitpid(process_, nullptr, 0);
        std::filesystem::remove(kPath);
    }
    Listener(const Listener &) = delete;
    Listener &operator=(const Listener &) = delete;

private:
    pid_t process_ = -1;
};

void serve_fake_domains(UniqueFd listening) {
    auto loop = EventLoop::create();
    FakeDomains domains;
    domains.facts(7) = {.suspended = true, .incarnation = {FakeDomains::kImage, 3}};
    domains.facts(8) = {.has_run = true, .incarnation = {FakeDomains::kImage, 1}};
    domains.facts(9) = {.paused = true, .incarnation = {FakeDomains::kImage, 1}};
    domains.gone.insert(10);
    DomainsServer server(*loop, domains, std::move(listening));
    (void)server.start();
    (void)loop->run();
}

// Takes one connection and says this to whatever it is told.
void answer_with(UniqueFd listening, ByteView answer) {
    const UniqueFd client(::accept(listening.get(), nullptr, nullptr));
    Bytes buffer(kMaxSmallMessage);
    while (true) {
        const auto received = receive_message(client.get(), buffer);
        if (!received || received->size == 0) return;
        (void)send_message(client.get(), answer);
    }
}

Bytes datagram_of(const auto &message) {
    Bytes buffer(kMaxSmallMessage);
    const ByteView view = encode(message, buffer);
    return {view.begin(), view.end()};
}

}  // namespace

TEST_CASE("what the hypervisor says of a domain arrives as it was said") {
    const Listener listener(serve_fake_domains);
    DomainsClient domains(kPath, kPatient);
    const auto suspended = domains.ask(7);
    REQUIRE(suspended);
    CHECK((suspended->suspended && !suspended->has_run && !suspended->paused));
    CHECK(suspended->incarnation.domain == FakeDomains::kImage);
    CHECK(suspended->incarnation.number == 3);
    const auto running = domains.ask(8);
    REQUIRE(running);
    CHECK((!running->suspended && running->has_run && !running->paused));
    const auto paused = domains.ask(9);
    REQUIRE(paused);
    CHECK((!paused->suspended && !paused->has_run && paused->paused));
    const auto gone = domains.ask(10);
    REQUIRE_FALSE(gone);
    CHECK(gone.error().code == ErrorCode::kNotFound);
}

TEST_CASE("who answers for the hypervisor may be restarted, and be away") {
    DomainsClient domains(kPath, kPatient);
    {
        const auto away = domains.ask(8);
        REQUIRE_FALSE(away);
        CHECK(away.error().code == ErrorCode::kUnavailable);
        CHECK(away.error().text.find("systemctl status xen-vtpm-domains") != std::string::npos);
    }
    for (int life = 0; life < 3; ++life) {
        const Listener listener(serve_fake_domains);
        CHECK(domains.ask(8));  // at once, though the former connection has ended
    }
    CHECK_FALSE(domains.ask(8));
}

TEST_CASE("an answer is not waited for without end, nor by everybody in turn") {
    const Listener listener([](const UniqueFd &) { ::pause(); });
    DomainsClient domains(kPath, kLimit);
    const auto began = std::chrono::steady_clock::now();
    for (int asked = 0; asked < 100; ++asked) {
        const auto silent = domains.ask(8);
        REQUIRE_FALSE(silent);
        CHECK(silent.error().code == ErrorCode::kUnavailable);
    }
    const auto took = std::chrono::steady_clock::now() - began;
    CHECK(took >= kLimit);
    CHECK(took < 10 * kLimit);
}

TEST_CASE("who does not accept is not waited for, however many have tried before") {
    const UniqueFd listening(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    kPath.copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(listening.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0);
    REQUIRE(::listen(listening.get(), 1) == 0);
    for (int asked = 0; asked < 5; ++asked) {
        DomainsClient domains(kPath, kLimit);
        const auto began = std::chrono::steady_clock::now();
        const auto silent = domains.ask(8);
        REQUIRE_FALSE(silent);
        CHECK(silent.error().code == ErrorCode::kUnavailable);
        CHECK(std::chrono::steady_clock::now() - began < 10 * kLimit);
    }
    std::filesystem::remove(kPath);
}

TEST_CASE("a service of another version is told of by its own words") {
    const Bytes answer = datagram_of(DomainAnswer{.code = ErrorCode::kUnavailable, .text = "restart both"});
    const Listener listener([&](UniqueFd listening) { answer_with(std::move(listening), answer); });
    DomainsClient domains(kPath, kPatient);
    const auto told = domains.ask(8);
    REQUIRE_FALSE(told);
    CHECK(told.error().text.find("restart both") != std::string::npos);
}

TEST_CASE("an answer that is none, or is about another domain, is not believed") {
    const Bytes answer = GENERATE(Bytes{1}, Bytes(kMaxSmallMessage, 0xff), datagram_of(DomainAnswer{.domain = 9}));
    const Listener listener([&](UniqueFd listening) { answer_with(std::move(listening), answer); });
    DomainsClient domains(kPath, kPatient);
    const auto told = domains.ask(8);
    REQUIRE_FALSE(told);
    CHECK(told.error().code == ErrorCode::kUnavailable);
}

TEST_CASE("what is no question ends its connection only, and another version is told") {
    const Listener listener(serve_fake_domains);
    Bytes buffer(kMaxSmallMessage);
    for (const Bytes &garbage : {Bytes{1}, Bytes(kMaxSmallMessage, 0x50), datagram_of(ListEngines{1})}) {
        const auto client = connect_seqpacket(kPath);
        REQUIRE(client);
        REQUIRE(send_message(client->get(), garbage));
        const auto received = receive_message(client->get(), buffer);
        CHECK((!received || received->size == 0));
    }
    const auto client = connect_seqpacket(kPath);
    REQUIRE(client);
    REQUIRE(send(client->get(), AskDomain{.protocol = 1, .domain = 8}));
    const auto received = receive_message(client->get(), buffer);
    REQUIRE(received);
    const auto answer = decode<DomainAnswer>(ByteView(buffer).first(received->size));
    REQUIRE(answer);
    CHECK(answer->code == ErrorCode::kUnavailable);
    CHECK(answer->text.find("systemctl restart xen-vtpmd") != std::string::npos);
    DomainsClient domains(kPath, kPatient);
    CHECK(domains.ask(8));
}

}  // namespace vtpm
