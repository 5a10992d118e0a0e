// SPDX-License-Identifier: Apache-2.0
#include "manager_process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <fstream>

using namespace vtpm;

namespace {

constexpr std::chrono::seconds kLimit(20);

// Where sd_notify(3) goes.
UniqueFd bind_notify_socket(const std::string &path) {
    UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    std::filesystem::remove(path);
    // The sockets API wants the generic type.
    REQUIRE(::bind(socket.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0);
    return socket;
}

}  // namespace

std::string ManagerPlace::write_config() const {
    std::filesystem::create_directories(state_directory());
    std::string path = directory / "manager.toml";
    std::ofstream(path) << fmt::format("tcti = \"{}\"\nstate_directory = \"{}\"\nsocket = \"{}\"\n{}\n", tcti,
                                       state_directory(), socket(), more_config);
    return path;
}

Launch ManagerPlace::launch() const {
    Launch launch{{VTPM_MANAGERD, "--config", write_config()}, {{"DBUS_SYSTEM_BUS_ADDRESS", bus_address}}, {}};
    launch.err = journal;
    if (!credentials.empty()) launch.environment.emplace_back("CREDENTIALS_DIRECTORY", credentials);
    return launch;
}

ManagerProcess::ManagerProcess(const ManagerPlace &place)
    : notify_(bind_notify_socket(place.directory / "notify")), process_([&] {
          Launch launch = place.launch();
          launch.environment.emplace_back("NOTIFY_SOCKET", place.directory / "notify");
          return launch;
      }()) {
    while (receive().find("READY=1") == std::string::npos) {}
}

std::string ManagerProcess::receive() {
    expect(wait_readable(notify_.get(), kLimit));
    std::array<char, 4096> buffer{};
    const ssize_t size = ::recv(notify_.get(), buffer.data(), buffer.size(), 0);
    REQUIRE(size > 0);
    std::string message(buffer.data(), static_cast<std::size_t>(size));
    if (message.starts_with("STATUS=")) status_ = message.substr(7);
    return message;
}

std::string ManagerProcess::wait_for_status(const std::string &prefix) {
    while (!status_.starts_with(prefix)) receive();
    return status_;
}

BackendEnd::BackendEnd(const std::string &socket) : socket_(expect(connect_seqpacket(socket))) {}

template <typename Request>
Answer BackendEnd::exchange(const Request &request) {
    std::array<std::uint8_t, kMaxSmallMessage> buffer{};
    Answer answer = exchange_raw(encode(request, buffer));
    REQUIRE(answer.uuid == request.uuid);
    return answer;
}
Answer BackendEnd::exchange_raw(ByteView request) {
    std::array<std::uint8_t, kMaxSmallMessage> buffer{};
    expect(send_message(socket_.get(), request));
    expect(wait_readable(socket_.get(), kLimit));
    Received received = expect(receive_message(socket_.get(), buffer));
    const auto answer = expect(decode<VtpmAnswer>(ByteView(buffer).first(received.size)));
    std::optional<EngineEnd> engine;
    if (received.fds[0]) engine.emplace(std::move(received.fds[0]));
    return {answer.uuid, answer.code, answer.version, std::string(answer.text), std::move(engine)};
}
template Answer BackendEnd::exchange(const PrepareVtpm &);
template Answer BackendEnd::exchange(const OpenVtpm &);

EngineEnd BackendEnd::open(const Uuid &uuid) {
    const Answer prepared = ask<PrepareVtpm>(uuid);
    CAPTURE(prepared.text);
    REQUIRE(prepared.code == ErrorCode::kNone);
    Answer opened = ask<OpenVtpm>(uuid);
    CAPTURE(opened.text);
    REQUIRE(opened.code == ErrorCode::kNone);
    return std::move(*opened.engine);
}

bool BackendEnd::closed() {
    std::array<std::uint8_t, kMaxSmallMessage> buffer{};
    expect(wait_readable(socket_.get(), kLimit));
    const auto received = receive_message(socket_.get(), buffer);
    return !received || received->size == 0;
}

Output cli(const std::string &bus_address, std::vector<std::string> arguments, int in) {
    arguments.insert(arguments.begin(), VTPM_CLI);
    Launch launch{std::move(arguments), {{"DBUS_SYSTEM_BUS_ADDRESS", bus_address}}, {}};
    launch.in = in;
    return run(std::move(launch));
}
