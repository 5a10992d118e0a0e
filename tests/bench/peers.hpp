// SPDX-License-Identifier: Apache-2.0
// Those who are compared: guests with our vTPMs, and clients of as many swtpm. Both have the same three functions:
// submit(), fd() that becomes readable with the response, and take() it.
#pragma once

#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <deque>
#include <filesystem>

#include "backend/engine/tpm_messages.hpp"
#include "shared-protocol/tpm_message.hpp"
#include "tests/bench/figures.hpp"
#include "tests/fakes/tpm_commands.hpp"
#include "tests/integration/backend/host.hpp"
#include "tests/integration/manager/manager_process.hpp"
#include "tests/integration/manager/swtpm.hpp"

namespace vtpm {

// Otherwise the scheduler's choice, one processor or two, decides how long a round trip takes.
inline void run_on(const std::vector<std::size_t> &processors, const std::vector<pid_t> &pids) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const std::size_t processor : processors) CPU_SET(processor, &set);
    for (const pid_t pid : pids)
        if (::sched_setaffinity(pid, sizeof set, &set) != 0) throw std::runtime_error("sched_setaffinity");
}

inline void require_success(ByteView response) {
    if (return_code(response) != 0) throw std::runtime_error(fmt::format("a TPM answers {:#x}", return_code(response)));
}

// ---- ours ----

inline void submit(LoopbackGuest &guest, ByteView command) { guest.submit(command); }
inline Bytes take(LoopbackGuest &guest) {
    eventfd_t count = 0;
    (void)::eventfd_read(guest.fd(), &count);
    return guest.response(std::chrono::milliseconds(0));
}

// A real manager with its store on the disk of TMPDIR, the daemon's devices, zygote and engines. Endorsement keys are
// left out: swtpm makes none either before swtpm_setup asks for them.
class OurVtpms {
public:
    OurVtpms() { expect(host_.start()); }
    // The first `count` guests. Throws if one has no answer within `limit`. Returns the seconds until all had one: a
    // guest's frontend is there with its first command when the toolstack attaches the device.
    double attach(std::size_t count, std::chrono::milliseconds limit = std::chrono::minutes(3)) {
        while (guests_.size() < count) {
            guests_.emplace_back();
            uuids_.push_back(Uuid::random());
        }
        std::size_t answered = 0;
        std::deque<EventSource> sources;
        const auto began = Clock::now();
        for (std::size_t i = attached_; i < count; ++i) {
            LoopbackGuest &guest = guests_[i];
            sources.push_back(expect(host_.loop.on_readable(guest.fd(), [&answered, &guest] {
                require_success(take(guest));
                ++answered;
            })));
            host_.rings.guests[device(i).domain] = &guest;
            host_.attach(device(i), uuids_[i]);
            guest.submit(commands::pcr_read(0));
            host_.frontend_initialised(device(i));
        }
        if (!host_.run_until([&] { return answered == count - attached_; }, limit))
            throw std::runtime_error(fmt::format("{} of {} guests have no TPM", count - attached_ - answered, count));
        const double time = seconds_since(began);
        for (; attached_ < count; ++attached_) {
            if (!host_.reaches(device(attached_), "4")) throw std::runtime_error("a device does not connect");
            host_.frontend_state(device(attached_), 4);
        }
        // An engine may be faster than the zygote's report of it.
        if (!host_.run_until([this] { return std::ranges::count(engines(), 0) == 0; }))
            throw std::runtime_error("an engine has no pid");
        return time;
    }
    // New TPMs, a few at once: not what is measured here.
    void create(std::size_t count) {
        for (std::size_t made = 0; made < count;) attach(made = std::min(count, made + 20));
    }
    void detach() {
        for (std::size_t i = 0; i < attached_; ++i) host_.detach(device(i));
        for (std::size_t i = 0; i < attached_; ++i)
            if (!host_.reaches(device(i), "6")) throw std::runtime_error("a device does not close");
        for (std::size_t i = 0; i < attached_; ++i) host_.remove(device(i));
        if (!host_.run_until([this] { return host_.backend->devices().empty(); }))
            throw std::runtime_error("a device stays");
        attached_ = 0;
    }

    // Everything that is attached, and the daemon with it, does nothing for so long but what it does by itself.
    void idle(std::chrono::milliseconds time) {
        bool over = false;
        const auto timer = expect(host_.loop.after(time, [&over] { over = true; }));
        while (!over) (void)sd_event_run(host_.loop.raw(), UINT64_MAX);
    }

    [[nodiscard]] std::deque<LoopbackGuest> &guests() { return guests_; }
    [[nodiscard]] LoopbackGuest &guest() { return guests_.front(); }
    [[nodiscard]] std::vector<pid_t> engines() const {
        std::vector<pid_t> pids;
        for (const auto &[id, device] : host_.backend->devices())
            pids.push_back(static_cast<pid_t>(device->engine_pid()));
        return pids;
    }
    // The parent of an engine.
    [[nodiscard]] pid_t zygote() const { return std::stoi(process_status(engines().at(0)).at("PPid")); }
    [[nodiscard]] pid_t manager() const { return manager_.pid(); }
    [[nodiscard]] std::string directory() const { return directory_.path(); }
    [[nodiscard]] std::string manager_socket() const { return place_.socket(); }

private:
    static DeviceId device(std::size_t guest) { return {static_cast<std::uint32_t>(guest) + 1, 0}; }

    TemporaryDirectory directory_;
    PrivateBus bus_{directory_ / "bus"};  // without one the manager would look for it again and again
    ManagerPlace place_{.directory = directory_,
                        .tcti = "none",
                        .bus_address = bus_.address(),
                        .more_config = "sealing = \"file\"\nek_certificates = false\n"};
    ManagerProcess manager_{place_};
    std::deque<LoopbackGuest> guests_;
    std::vector<Uuid> uuids_;
    std::size_t attached_ = 0;
    Host host_{place_.socket(), std::chrono::milliseconds(0)};
};

// ---- swtpm ----

class SwtpmClient {
public:
    explicit SwtpmClient(const std::string &path) : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        // The sockets API wants the generic type.
        if (::connect(socket_.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0)
            throw std::runtime_error("connect " + path);
    }
    [[nodiscard]] int fd() const { return socket_.get(); }
    void submit(ByteView command) {
        if (::write(socket_.get(), command.data(), command.size()) != static_cast<ssize_t>(command.size()))
            throw std::runtime_error("swtpm takes no command");
    }
    Bytes take() {
        Bytes response(TPMIF_MAX_MESSAGE);
        std::size_t size = 0;
        while (size < TPM_MESSAGE_HEADER_SIZE || size < tpm_size(response)) {
            const ssize_t part = ::read(socket_.get(), response.data() + size, response.size() - size);
            if (part <= 0) throw std::runtime_error("swtpm has ended");
            size += static_cast<std::size_t>(part);
        }
        response.resize(size);
        return response;
    }
    Bytes execute(ByteView command) {
        submit(command);
        return take();
    }

private:
    UniqueFd socket_;
};

inline void submit(SwtpmClient &client, ByteView command) { client.submit(command); }
inline Bytes take(SwtpmClient &client) { return client.take(); }

// As many swtpm, each with a state of its own that was there before.
class Swtpms {
public:
    explicit Swtpms(std::size_t count) {
        const std::string made = directory_ / "made";
        {
            const Swtpm first(made);
            require_success(SwtpmClient(made + "/tpm").execute(commands::pcr_read(0)));
        }
        for (std::size_t i = 0; i < count; ++i) {
            std::filesystem::create_directories(place(i));
            std::filesystem::copy_file(made + "/tpm2-00.permall", place(i) + "/tpm2-00.permall");
        }
        count_ = count;
    }
    // The seconds until all have answered their first command.
    double start() {
        const Bytes command = commands::pcr_read(0);
        const auto began = Clock::now();
        for (std::size_t i = 0; i < count_; ++i) {
            processes_.emplace_back(place(i));
            clients_.emplace_back(place(i) + "/tpm");
            clients_.back().submit(command);
        }
        for (SwtpmClient &client : clients_) require_success(client.take());
        return seconds_since(began);
    }
    void stop() {
        clients_.clear();
        processes_.clear();
    }
    [[nodiscard]] std::deque<SwtpmClient> &clients() { return clients_; }
    [[nodiscard]] std::vector<pid_t> pids() const {
        std::vector<pid_t> pids;
        for (const Swtpm &process : processes_) pids.push_back(process.pid());
        return pids;
    }

private:
    [[nodiscard]] std::string place(std::size_t i) const { return directory_ / std::to_string(i).c_str(); }

    TemporaryDirectory directory_;
    std::size_t count_ = 0;
    std::deque<Swtpm> processes_;
    std::deque<SwtpmClient> clients_;
};

}  // namespace vtpm
