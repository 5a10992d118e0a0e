// SPDX-License-Identifier: Apache-2.0
// libxl and xen-vtpmd, as far as xen-vtpm-launch can see.
#pragma once

#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "backend/launch/request.hpp"
#include "base/bus.hpp"
#include "files.hpp"
#include "private_bus.hpp"
#include "shared-protocol/bus_names.hpp"
#include "shared-protocol/record_launch.hpp"
#include "tests/unit/launch/pe_writer.hpp"
#include "tests/unit/manager/expect.hpp"
#include "tests/unit/manager/temporary_directory.hpp"

namespace vtpm::launch {

// xen-vtpmd's RecordLaunch. It may wait before it answers, and refuse.
class Recorder {
public:
    explicit Recorder(const std::string &bus)
        : server_(loop_, kBackendBus, {{kRecordLaunch, "ss", "", [this](const bus::Arguments &a) { return take(a); }}},
                  [](const std::string &) {}),
          ended_(expect(loop_.on_readable(end_.get(), [this] { loop_.stop(); }))) {
        ::setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.c_str(), 1);
        server_.start();
        thread_ = std::thread([this] { (void)loop_.run(); });
    }
    Recorder(const Recorder &) = delete;
    Recorder &operator=(const Recorder &) = delete;
    ~Recorder() {
        const std::uint64_t one = 1;
        (void)!::write(end_.get(), &one, sizeof one);
        thread_.join();
    }
    [[nodiscard]] std::optional<RecordLaunch> recorded() {
        const std::lock_guard lock(mutex_);
        return recorded_;
    }
    // Of each domain.
    [[nodiscard]] std::map<std::uint32_t, Bytes> logs() {
        const std::lock_guard lock(mutex_);
        return logs_;
    }
    // What happens while xen-vtpm-launch waits for the answer.
    std::function<Result<>()> meanwhile;

private:
    Result<bus::Reply> take(const bus::Arguments &arguments) {
        if (meanwhile) VTPM_TRY(meanwhile());
        VTPM_ASSIGN(RecordLaunch launch, parse_record_launch(arguments));
        const std::lock_guard lock(mutex_);
        logs_[launch.domain] = launch.log;
        recorded_ = std::move(launch);
        return std::monostate{};
    }

    EventLoop loop_ = expect(EventLoop::create());
    UniqueFd end_{::eventfd(0, EFD_CLOEXEC)};
    bus::Server server_;
    EventSource ended_;
    std::mutex mutex_;
    std::optional<RecordLaunch> recorded_;
    std::map<std::uint32_t, Bytes> logs_;
    std::thread thread_;
};

struct LaunchHost {
    TemporaryDirectory directory;
    PrivateBus bus{directory / "bus"};
    std::optional<Recorder> recorder{std::in_place, bus.address()};
    std::string output;
    std::string place;

    LaunchHost() { start_of(7); }
    // What is said from now on is of this domain.
    void start_of(std::uint32_t domain) {
        output = directory / fmt::format("bootloader.{}.out", domain).c_str();
        place = directory / fmt::format("bootloader.{}.d", domain).c_str();
        if (!std::filesystem::create_directory(place)) return;
        ::chmod(place.c_str(), 0700);
        write_file(output, {});
    }

    // As libxl does it (libxl_bootloader.c: make_bootloader_args()).
    [[nodiscard]] Launch command(std::vector<std::string> options, const std::string &disk = "/dev/null") const {
        std::vector<std::string> command{VTPM_LAUNCH};
        command.insert(command.end(), options.begin(), options.end());
        command.insert(command.end(),
                       {"--output=" + output, "--output-format=simple0", "--output-directory=" + place, disk});
        return {std::move(command), {{"DBUS_SYSTEM_BUS_ADDRESS", bus.address()}}, {}};
    }
    [[nodiscard]] Output start(std::vector<std::string> options, const std::string &disk = "/dev/null") const {
        return ::run(command(std::move(options), disk));
    }
    [[nodiscard]] std::string file(const char *name, const Bytes &content) const {
        std::string path = directory / name;
        write_file(path, content);
        return path;
    }
    // What libxl reads of a program that ended well.
    [[nodiscard]] Answer answer() const {
        const Bytes text = read_file(output);
        return expect(parse_simple0({reinterpret_cast<const char *>(text.data()), text.size()}));
    }
    [[nodiscard]] bool nothing_left() const { return std::filesystem::is_empty(place) && read_file(output).empty(); }
    // It failed, and left no trace.
    void check_refused(const Output &ended, const std::string &error) {
        CAPTURE(ended.err);
        REQUIRE(ended.status == 1);
        REQUIRE_THAT(ended.err, Contains("xen-vtpm-launch: ") && Contains(error));
        REQUIRE(nothing_left());
        if (recorder) REQUIRE_FALSE(recorder->recorded());
    }
};

}  // namespace vtpm::launch
