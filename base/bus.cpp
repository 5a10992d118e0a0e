// SPDX-License-Identifier: Apache-2.0
#include "base/bus.hpp"

#include <algorithm>

#include "base/bus_message.hpp"
#include "base/legible.hpp"

namespace vtpm::bus {
namespace {

constexpr std::chrono::seconds kRetryInterval(5);
constexpr std::uint64_t kCallTimeout = 30'000'000;  // microseconds
constexpr std::chrono::seconds kTellInterval(10);
constexpr std::uint64_t kBusTimeout = 2'000'000;  // for the bus itself, on which the loop waits

struct ReleaseMessage {
    void operator()(sd_bus_message *message) const { sd_bus_message_unref(message); }
};
using Message = std::unique_ptr<sd_bus_message, ReleaseMessage>;

// sd_bus_error is a C struct that may own its texts.
struct BusError : sd_bus_error {
    BusError() : sd_bus_error{nullptr, nullptr, 0} {}
    BusError(const BusError &) = delete;
    BusError &operator=(const BusError &) = delete;
    ~BusError() { sd_bus_error_free(this); }
};

Result<> check(int returned, const char *what) {
    if (returned >= 0) return {};
    return fail(ErrorCode::kUnavailable, "D-Bus: {}: {}", what, std::strerror(-returned));
}

tl::unexpected<Error> call_failure(const sd_bus_error &error, int returned, const Address &address) {
    if (error.name == nullptr) return tl::make_unexpected(check(returned, address.name).error());
    if (sd_bus_error_has_name(&error, SD_BUS_ERROR_SERVICE_UNKNOWN) != 0)
        return fail(ErrorCode::kUnavailable, "nobody serves {}: the daemon does not run", address.name);
    if (sd_bus_error_has_name(&error, SD_BUS_ERROR_ACCESS_DENIED) != 0)
        return fail(ErrorCode::kRefused, "the system bus lets only root call {} (are you root?)", address.name);
    for (const char *unknown : {SD_BUS_ERROR_UNKNOWN_METHOD, SD_BUS_ERROR_INVALID_ARGS, SD_BUS_ERROR_INVALID_SIGNATURE})
        if (sd_bus_error_has_name(&error, unknown) != 0)
            return fail(ErrorCode::kSystem,
                        "the daemon that serves {} is of another version than this program, and does not know this "
                        "request: upgrade both, and restart the daemon",
                        address.name);
    return fail(error_code(error.name), "{}", error.message != nullptr ? error.message : error.name);
}

int send_reply(sd_bus_message *call, const Reply &reply);

// The message stays in the loop's thread: sd-bus counts its references for one thread.
void answer_later(const Method &method, Arguments arguments, Message call) {
    struct Pending {
        Message call;
        Result<Reply> reply = std::monostate{};
    };
    const auto pending = std::make_shared<Pending>();
    pending->call = std::move(call);
    method.elsewhere(
        [pending, handler = method.handler, arguments = std::move(arguments)] { pending->reply = handler(arguments); },
        [pending] {
            const Result<Reply> &reply = pending->reply;
            if (reply)
                (void)send_reply(pending->call.get(), *reply);
            else
                (void)sd_bus_reply_method_errorf(pending->call.get(), error_name(reply.error().code), "%s",
                                                 legible(reply.error().text).c_str());
        });
}

int send_reply(sd_bus_message *call, const Reply &reply) {
    sd_bus_message *raw = nullptr;
    const int made = sd_bus_message_new_method_return(call, &raw);
    if (made < 0) return made;
    const Message message(raw);
    const int appended = append(raw, reply);
    return appended < 0 ? appended : sd_bus_send(nullptr, raw, nullptr);
}

}  // namespace

Result<Connection> open_system() {
    sd_bus *raw = nullptr;
    VTPM_TRY(check(sd_bus_open_system(&raw), "the system bus"));
    return Connection(raw);
}

// Every method has the flag UNPRIVILEGED: without it sd-bus would ask for CAP_SYS_ADMIN of the caller, which a
// confined daemon cannot look up. The bus policy lets root call only.
Server::Server(EventLoop &loop, Address address, std::vector<Method> methods,
               std::function<void(const std::string &)> report)
    : loop_(loop), address_(address), methods_(std::move(methods)), report_(std::move(report)) {
    vtable_.push_back(SD_BUS_VTABLE_START(0));
    for (const Method &method : methods_)
        vtable_.push_back(
            SD_BUS_METHOD(method.name, method.takes, method.returns, on_call, SD_BUS_VTABLE_UNPRIVILEGED));
    vtable_.push_back(SD_BUS_VTABLE_END);
}

void Server::start() { connect(Naming::kAtOnce); }

void Server::connect(Naming naming) {
    auto connected = try_connect(naming);
    if (connected) {
        bus_ = std::move(*connected);
        reported_ = false;
        return;
    }
    if (!std::exchange(reported_, true)) report_(connected.error().text);
    reconnect_later();
}

// At the start it waits for the name: who starts the daemon and then calls it finds it. Later the loop has more to do
// than to wait for a bus that may hang: one that gives no name ends the connection.
Result<Connection> Server::try_connect(Naming naming) {
    VTPM_ASSIGN(Connection bus, open_system());
    sd_bus *raw = bus.get();
    VTPM_TRY(check(sd_bus_set_method_call_timeout(raw, kBusTimeout), "timeout"));
    VTPM_TRY(check(sd_bus_attach_event(raw, loop_.raw(), SD_EVENT_PRIORITY_NORMAL), "attach"));
    VTPM_TRY(check(sd_bus_add_object_vtable(raw, nullptr, address_.path, address_.interface, vtable_.data(), this),
                   "vtable"));
    VTPM_TRY(check(sd_bus_match_signal(raw, nullptr, "org.freedesktop.DBus.Local", "/org/freedesktop/DBus/Local",
                                       "org.freedesktop.DBus.Local", "Disconnected", on_disconnected, this),
                   "match"));
    const int named = naming == Naming::kAtOnce
                          ? sd_bus_request_name(raw, address_.name, 0)
                          : sd_bus_request_name_async(raw, nullptr, address_.name, 0, nullptr, nullptr);
    VTPM_TRY(check(named, address_.name));
    return bus;
}

// Without the event source the daemon goes on, but not on the bus.
void Server::reconnect_later() {
    if (auto source = loop_.after(kRetryInterval, [this] { connect(Naming::kLater); })) retry_ = std::move(*source);
}

int Server::on_disconnected(sd_bus_message *, void *userdata, sd_bus_error *) noexcept {
    auto *self = static_cast<Server *>(userdata);  // what try_connect gave to sd-bus
    self->report_("D-Bus: disconnected");
    self->reported_ = true;
    self->reconnect_later();  // not here: the connection is in use by sd-bus
    return 0;
}

int Server::on_call(sd_bus_message *message, void *userdata, sd_bus_error *error) noexcept {
    auto *self = static_cast<Server *>(userdata);  // what try_connect gave to sd-bus
    const std::string_view member = sd_bus_message_get_member(message);
    const auto method =
        std::ranges::find(self->methods_, member, [](const Method &m) { return std::string_view(m.name); });
    require(method != self->methods_.end(), "sd-bus calls methods of the vtable only");
    Arguments arguments;
    if (const int failed = read(message, arguments); failed < 0) return failed;
    if (method->elsewhere) {
        answer_later(*method, std::move(arguments), Message(sd_bus_message_ref(message)));
        return 1;
    }
    const Result<Reply> reply = method->handler(arguments);
    if (!reply) return sd_bus_error_set(error, error_name(reply.error().code), legible(reply.error().text).c_str());
    return send_reply(message, *reply);
}

Result<Client> Client::open_system() {
    VTPM_ASSIGN(Connection bus, bus::open_system());
    return Client(std::move(bus));
}

namespace {

Result<Message> request_for(sd_bus *bus, const Address &address, const char *method, const Arguments &arguments) {
    sd_bus_message *raw = nullptr;
    VTPM_TRY(check(sd_bus_message_new_method_call(bus, &raw, address.name, address.path, address.interface, method),
                   method));
    Message request(raw);
    VTPM_TRY(check(append(raw, arguments), method));
    return request;
}

Result<Reply> reply_in(sd_bus_message *answer, const char *method) {
    Reply reply;
    VTPM_TRY(check(read(answer, reply), method));
    return reply;
}

int keep_answer(sd_bus_message *message, void *userdata, sd_bus_error *) noexcept {
    static_cast<Message *>(userdata)->reset(sd_bus_message_ref(message));  // what call_patiently() gave to sd-bus
    return 1;
}

}  // namespace

Result<Reply> Client::call(const Address &address, const char *method, const Arguments &arguments) {
    VTPM_ASSIGN(const Message request, request_for(bus_.get(), address, method, arguments));
    BusError error;
    sd_bus_message *raw_reply = nullptr;
    const int returned = sd_bus_call(bus_.get(), request.get(), kCallTimeout, &error, &raw_reply);
    const Message answer(raw_reply);
    if (returned < 0) return call_failure(error, returned, address);
    return reply_in(answer.get(), method);
}

Result<Reply> Client::call_patiently(const Address &address, const char *method, const Arguments &arguments,
                                     const StillWaiting &still_waiting) {
    using Clock = std::chrono::steady_clock;
    using std::chrono::duration_cast;
    VTPM_ASSIGN(const Message request, request_for(bus_.get(), address, method, arguments));
    Message answer;
    VTPM_TRY(check(sd_bus_call_async(bus_.get(), nullptr, request.get(), keep_answer, &answer, UINT64_MAX), method));
    const auto began = Clock::now();
    auto next = began + kTellInterval;
    while (!answer) {
        const int processed = sd_bus_process(bus_.get(), nullptr);
        VTPM_TRY(check(processed, address.name));
        if (processed > 0) continue;
        const auto left = duration_cast<std::chrono::microseconds>(next - Clock::now()).count();
        if (left > 0) {
            VTPM_TRY(check(sd_bus_wait(bus_.get(), static_cast<std::uint64_t>(left)), address.name));
            continue;
        }
        next += kTellInterval;
        if (still_waiting) still_waiting(duration_cast<std::chrono::seconds>(Clock::now() - began));
    }
    if (sd_bus_message_is_method_error(answer.get(), nullptr) == 0) return reply_in(answer.get(), method);
    return call_failure(*sd_bus_message_get_error(answer.get()), -EIO, address);
}

}  // namespace vtpm::bus
