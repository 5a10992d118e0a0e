// SPDX-License-Identifier: Apache-2.0
// The daemon's connection to the fake xenstore, which checks what the daemon may do to it: it reads and writes what
// derives from devices that the toolstack has made, and each state that it writes is an answer to what stands there.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "shared-protocol/xenstore_names.hpp"
#include "tests/fakes/fake_xenstore.hpp"

namespace vtpm {

class GuardedXenstore final : public Xenstore {
public:
    explicit GuardedXenstore(FakeXenstore &real) : real_(real) {}

    // The devices that the toolstack has ever made.
    std::set<DeviceId> devices;

    std::optional<std::string> read(const std::string &path) override {
        // Its own directory: whether xenstored is there.
        require(path == backend_root(0) || is_of_a_device(path) || is_name_of_a_guest(path),
                "the daemon reads what is of its devices only");
        return real_.read(path);
    }
    std::vector<std::string> list(const std::string &path) override {
        require(path == "/local/domain" || path.starts_with(backend_root(0)), "the daemon lists its devices only");
        return real_.list(path);
    }
    Result<bool> update(const std::string &directory, const Seen &seen, const std::string &key,
                        const std::string &value) override {
        const auto id = of_directory(directory);
        require(id.has_value(), "the daemon writes into its own directories only");
        require(key.find('/') == std::string::npos, "and not below them");
        const bool there = real_.read(directory + "/state").has_value();
        if (there && key == "state") check_state(*id, directory, value);
        // Otherwise its PCRs would be zero for a guest that runs on.
        require(key != "powered-on" || !real_.read(directory + "/powered-on"), "a device's TPM is powered on once");
        const auto written = real_.update(directory, seen, key, value);
        require(!written || there || !*written, "a directory that was removed stays so");
        return written;
    }
    Result<> remove(const std::string &path) override {
        require(path.ends_with("/state") && of_directory(path.substr(0, path.size() - 6)),
                "the daemon removes its own state only");
        return real_.remove(path);
    }
    Result<> watch(const std::string &path, const std::string &token) override {
        require(path == backend_root(0) || is_of_a_device(path), "the daemon watches its devices only");
        return real_.watch(path, token);
    }
    void unwatch(const std::string &path, const std::string &token) override { real_.unwatch(path, token); }
    [[nodiscard]] int fd() const override { return real_.fd(); }
    std::optional<WatchEvent> next_event() override { return real_.next_event(); }

private:
    [[nodiscard]] std::optional<DeviceId> of_directory(const std::string &directory) const {
        for (const DeviceId id : devices)
            if (directory == backend_path(0, id)) return id;
        return std::nullopt;
    }
    [[nodiscard]] bool is_of_a_device(const std::string &path) const {
        const auto slash = path.rfind('/');
        const std::string directory = path.substr(0, slash);
        for (const DeviceId id : devices)
            if (directory == backend_path(0, id) || directory == frontend_path(id)) return true;
        return false;
    }
    [[nodiscard]] bool is_name_of_a_guest(const std::string &path) const {
        return std::ranges::any_of(
            devices, [&](DeviceId id) { return path == fmt::format("/local/domain/{}/name", id.domain); });
    }

    // docs/protocol.md, "xenstore: the device"
    void check_state(DeviceId id, const std::string &directory, const std::string &value) {
        const auto own = real_.read_number(directory + "/state");
        const auto next = parse_number(value);
        const auto frontend = real_.read_number(frontend_path(id) + "/state");
        const bool online = real_.read_number(directory + "/online") == 1u;
        const bool told_to_leave = !online || (own == 5u && written_[id] != "5");
        written_[id] = value;
        require(next != own, "a state is written when it changes");
        if (told_to_leave) return require(next == 6u, "after the order to leave there is 6 only");
        if (next == 2u) return require(own == 1u || frontend == 1u, "2 is for a new frontend");
        if (next == 4u) return require(frontend == 3u || frontend == 4u, "4 is for a frontend with a ring");
        if (next == 5u) return require(own != 6u, "what is closed does not close");
        if (next == 6u) return require(frontend == 6u || frontend == 1u, "6 is the answer to 6, or of a failed device");
        require(false, "a backend has the states 2, 4, 5 and 6");
    }

    FakeXenstore &real_;
    std::map<DeviceId, std::string> written_;
};

}  // namespace vtpm
