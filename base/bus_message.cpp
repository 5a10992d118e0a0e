// SPDX-License-Identifier: Apache-2.0
#include "base/bus_message.hpp"

#include <array>
#include <string_view>

// Inside this file: sd-bus calls in a row, the first error ends the function.
#define VTPM_BUS(call)                             \
    do {                                           \
        if (const int r = (call); r < 0) return r; \
    } while (false)

namespace vtpm::bus {
namespace {

constexpr std::array kErrors = {
    std::pair{ErrorCode::kNotFound, "org.xenvtpm.Error.NotFound"},
    std::pair{ErrorCode::kInUse, "org.xenvtpm.Error.InUse"},
    std::pair{ErrorCode::kRefused, "org.xenvtpm.Error.Refused"},
    std::pair{ErrorCode::kUnavailable, "org.xenvtpm.Error.Unavailable"},
    std::pair{ErrorCode::kStoreFailed, "org.xenvtpm.Error.StoreFailed"},
    std::pair{ErrorCode::kInvalid, "org.xenvtpm.Error.Invalid"},
    std::pair{ErrorCode::kWrongState, "org.xenvtpm.Error.WrongState"},
    std::pair{ErrorCode::kSystem, "org.xenvtpm.Error.System"},
    std::pair{ErrorCode::kShortage, "org.xenvtpm.Error.Shortage"},
};

struct AppendValue {
    sd_bus_message *message;
    int operator()(bool value) const { return sd_bus_message_append(message, "v", "b", static_cast<int>(value)); }
    int operator()(std::uint32_t value) const { return sd_bus_message_append(message, "v", "u", value); }
    int operator()(std::uint64_t value) const { return sd_bus_message_append(message, "v", "t", value); }
    int operator()(const std::string &value) const { return sd_bus_message_append(message, "v", "s", value.c_str()); }
};

struct AppendReply {
    sd_bus_message *message;
    int operator()(std::monostate) const { return 0; }
    int operator()(const std::string &text) const { return sd_bus_message_append(message, "s", text.c_str()); }
    int operator()(const Dictionary &dictionary) const {
        VTPM_BUS(sd_bus_message_open_container(message, 'a', "{sv}"));
        for (const auto &[key, value] : dictionary) {
            VTPM_BUS(sd_bus_message_open_container(message, 'e', "sv"));
            VTPM_BUS(sd_bus_message_append(message, "s", key.c_str()));
            VTPM_BUS(std::visit(AppendValue{message}, value));
            VTPM_BUS(sd_bus_message_close_container(message));
        }
        return sd_bus_message_close_container(message);
    }
    int operator()(const Rows &rows) const {
        VTPM_BUS(sd_bus_message_open_container(message, 'a', "a{sv}"));
        for (const Dictionary &row : rows) VTPM_BUS((*this)(row));
        return sd_bus_message_close_container(message);
    }
};

// Of a type that we do not know, nothing is taken: a newer daemon may say more.
int read_value(sd_bus_message *message, Dictionary &dictionary, const char *key) {
    char type = 0;
    const char *contents = nullptr;
    VTPM_BUS(sd_bus_message_peek_type(message, &type, &contents));
    const std::string_view kind = contents == nullptr ? "" : contents;
    if (kind == "s") {
        const char *text = nullptr;
        VTPM_BUS(sd_bus_message_read(message, "v", "s", &text));
        dictionary[key] = std::string(text);
    } else if (kind == "b") {
        int flag = 0;
        VTPM_BUS(sd_bus_message_read(message, "v", "b", &flag));
        dictionary[key] = flag != 0;
    } else if (kind == "u") {
        std::uint32_t number = 0;
        VTPM_BUS(sd_bus_message_read(message, "v", "u", &number));
        dictionary[key] = number;
    } else if (kind == "t") {
        std::uint64_t number = 0;
        VTPM_BUS(sd_bus_message_read(message, "v", "t", &number));
        dictionary[key] = number;
    } else {
        return sd_bus_message_skip(message, "v");
    }
    return 0;
}

int read_dictionary(sd_bus_message *message, Dictionary &dictionary) {
    VTPM_BUS(sd_bus_message_enter_container(message, 'a', "{sv}"));
    for (;;) {
        const int entered = sd_bus_message_enter_container(message, 'e', "sv");
        VTPM_BUS(entered);
        if (entered == 0) return sd_bus_message_exit_container(message);
        const char *key = nullptr;
        VTPM_BUS(sd_bus_message_read(message, "s", &key));
        VTPM_BUS(read_value(message, dictionary, key));
        VTPM_BUS(sd_bus_message_exit_container(message));
    }
}

int read_rows(sd_bus_message *message, Rows &rows) {
    VTPM_BUS(sd_bus_message_enter_container(message, 'a', "a{sv}"));
    for (;;) {
        const int at_end = sd_bus_message_at_end(message, 0);
        VTPM_BUS(at_end);
        if (at_end > 0) return sd_bus_message_exit_container(message);
        VTPM_BUS(read_dictionary(message, rows.emplace_back()));
    }
}

}  // namespace

int append(sd_bus_message *message, const Reply &reply) { return std::visit(AppendReply{message}, reply); }

int append(sd_bus_message *message, const Arguments &arguments) {
    for (const std::string &argument : arguments) VTPM_BUS(sd_bus_message_append(message, "s", argument.c_str()));
    return 0;
}

int read(sd_bus_message *message, Arguments &arguments) {
    for (;;) {
        const int at_end = sd_bus_message_at_end(message, 1);
        VTPM_BUS(at_end);
        if (at_end > 0) return 0;
        const char *text = nullptr;
        VTPM_BUS(sd_bus_message_read(message, "s", &text));
        arguments.emplace_back(text);
    }
}

int read(sd_bus_message *message, Reply &reply) {
    const std::string_view signature = sd_bus_message_get_signature(message, 1);
    if (signature == "a{sv}") return read_dictionary(message, reply.emplace<Dictionary>());
    if (signature == "aa{sv}") return read_rows(message, reply.emplace<Rows>());
    if (signature != "s") return 0;
    const char *text = nullptr;
    VTPM_BUS(sd_bus_message_read(message, "s", &text));
    reply = std::string(text);
    return 0;
}

const char *error_name(ErrorCode code) {
    for (const auto &[known, name] : kErrors)
        if (known == code) return name;
    return kErrors.back().second;
}

ErrorCode error_code(const char *name) {
    const std::string_view wanted = name == nullptr ? "" : name;
    for (const auto &[code, known] : kErrors)
        if (wanted == known) return code;
    // Nobody is there, or nobody answers.
    for (const char *absent : {SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER, SD_BUS_ERROR_NO_REPLY,
                               SD_BUS_ERROR_TIMEOUT, SD_BUS_ERROR_DISCONNECTED, SD_BUS_ERROR_NO_SERVER})
        if (wanted == absent) return ErrorCode::kUnavailable;
    return ErrorCode::kSystem;
}

}  // namespace vtpm::bus
