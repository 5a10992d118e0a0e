// SPDX-License-Identifier: Apache-2.0
// Thin RAII over sd-bus, as far as our daemons and the command line need it: methods that take strings and return a
// string, a dictionary or a list of dictionaries, on the system bus.
#pragma once

#include <systemd/sd-bus.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "base/event_loop.hpp"
#include "base/result.hpp"

namespace vtpm::bus {

using Value = std::variant<bool, std::uint32_t, std::uint64_t, std::string>;  // b, u, t, s
using Dictionary = std::map<std::string, Value>;                              // a{sv}
using Rows = std::vector<Dictionary>;                                         // aa{sv}
using Reply = std::variant<std::monostate, std::string, Dictionary, Rows>;    // nothing, s, a{sv}, aa{sv}
using Arguments = std::vector<std::string>;

// What is served, and where. Constants only: the pointers are kept.
struct Address {
    const char *name;
    const char *path;
    const char *interface;
};

// Runs the first elsewhere, and the second in the loop when that is done.
using Elsewhere = std::function<void(std::function<void()> job, std::function<void()> done)>;

struct Method {
    const char *name;
    const char *takes;    // signature: as many "s" as arguments
    const char *returns;  // signature of the Reply's alternative
    std::function<Result<Reply>(const Arguments &)> handler;
    Elsewhere elsewhere{};  // where the handler runs; null: in the loop
};

// One that is not connected yet has nothing to flush, and would be waited for.
struct CloseBus {
    void operator()(sd_bus *bus) const {
        if (sd_bus_is_ready(bus) > 0) (void)sd_bus_flush(bus);
        sd_bus_close_unref(bus);
    }
};
using Connection = std::unique_ptr<sd_bus, CloseBus>;

Result<Connection> open_system();

// Serves `methods`; errors become org.xenvtpm.Error.NotFound and so on, by their code. A bus that is away or goes
// away is tried again every few seconds; `report` is told, once each time. Who may call is the bus policy's matter.
class Server {
public:
    Server(EventLoop &loop, Address address, std::vector<Method> methods,
           std::function<void(const std::string &)> report);
    Server(const Server &) = delete;
    Server &operator=(const Server &) = delete;
    void start();

private:
    // Whether to wait for the name.
    enum class Naming { kAtOnce, kLater };
    void connect(Naming naming);
    Result<Connection> try_connect(Naming naming);
    void reconnect_later();
    static int on_call(sd_bus_message *message, void *userdata, sd_bus_error *error) noexcept;
    static int on_disconnected(sd_bus_message *message, void *userdata, sd_bus_error *error) noexcept;

    EventLoop &loop_;
    Address address_;
    std::vector<Method> methods_;
    std::vector<sd_bus_vtable> vtable_;  // sd-bus keeps a pointer to it
    std::function<void(const std::string &)> report_;
    bool reported_ = false;
    Connection bus_;
    EventSource retry_;
};

class Client {
public:
    static Result<Client> open_system();

    // Waits for the answer. kUnavailable: nobody serves it, or it takes half a minute; otherwise the server's own code
    // and text.
    Result<Reply> call(const Address &address, const char *method, const Arguments &arguments = {});
    // As long as it takes, as long as somebody serves it; `still_waiting` is told now and then.
    using StillWaiting = std::function<void(std::chrono::seconds since)>;
    Result<Reply> call_patiently(const Address &address, const char *method, const Arguments &arguments,
                                 const StillWaiting &still_waiting);

private:
    explicit Client(Connection bus) : bus_(std::move(bus)) {}
    Connection bus_;
};

}  // namespace vtpm::bus
