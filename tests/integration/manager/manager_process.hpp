// SPDX-License-Identifier: Apache-2.0
// The real xen-vtpm-managerd, its bus and its clients, each in the place that a test gives it.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/uuid.hpp"
#include "private_bus.hpp"
#include "process.hpp"
#include "shared-protocol/messages.hpp"
#include "tests/unit/manager/engine_end.hpp"
#include "tests/unit/manager/temporary_directory.hpp"

// Where one manager lives. Outlives it, so that a test can start it again.
struct ManagerPlace {
    const TemporaryDirectory &directory;
    std::string tcti;
    std::string bus_address = "unix:path=/nonexistent";
    std::string more_config{};  // TOML
    std::string credentials{};  // the directory that systemd fills
    int journal = -1;           // its standard error; -1: ours

    [[nodiscard]] std::string state_directory() const { return directory / "state"; }
    [[nodiscard]] std::string socket() const { return directory / "manager.sock"; }
    [[nodiscard]] std::string write_config() const;
    [[nodiscard]] Launch launch() const;
};

class ManagerProcess {
public:
    // Returns when it has told systemd (this class) that it is ready.
    explicit ManagerProcess(const ManagerPlace &place);

    [[nodiscard]] pid_t pid() const { return process_.pid(); }
    int end(int signal) { return process_.end(signal); }
    // The STATUS= that it last told, until there is one that begins with `prefix`.
    std::string wait_for_status(const std::string &prefix);

private:
    std::string receive();
    vtpm::UniqueFd notify_;
    Process process_;
    std::string status_;
};

struct Answer {
    vtpm::Uuid uuid;
    vtpm::ErrorCode code;
    vtpm::TpmVersion version;
    std::string text;
    std::optional<EngineEnd> engine;
};

// xen-vtpmd, as far as the manager can see.
class BackendEnd {
public:
    explicit BackendEnd(const std::string &socket);
    template <typename Request>
    Answer ask(const vtpm::Uuid &uuid) {
        Request request;
        request.uuid = uuid;
        return exchange(request);
    }
    EngineEnd open(const vtpm::Uuid &uuid);
    template <typename Request>
    Answer exchange(const Request &request);
    Answer exchange_raw(vtpm::ByteView request);
    void send(vtpm::ByteView message) { expect(vtpm::send_message(socket_.get(), message)); }
    // Whether the manager ended the connection.
    [[nodiscard]] bool closed();

private:
    vtpm::UniqueFd socket_;
};

// xen-vtpm with these arguments, on this bus; `in` is its standard input, -1: an empty one.
Output cli(const std::string &bus_address, std::vector<std::string> arguments, int in = -1);
