// SPDX-License-Identifier: Apache-2.0
#include "manager/crypto/json_object.hpp"

#include <openssl/sha.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <set>
#include <vector>

#include "base/legible.hpp"
#include "manager/crypto/encoding.hpp"

namespace vtpm {
namespace {

// Of two fields with one name nlohmann keeps one, without a word.
class Duplicates {
public:
    bool operator()(int, Json::parse_event_t event, Json &parsed) {
        if (event == Json::parse_event_t::object_start) open_.emplace_back();
        if (event == Json::parse_event_t::object_end) open_.pop_back();
        if (event == Json::parse_event_t::key && !open_.back().insert(parsed.get<std::string>()).second &&
            first_.empty())
            first_ = printable(parsed.get<std::string>());
        return true;
    }
    [[nodiscard]] const std::string &first() const { return first_; }

private:
    std::vector<std::set<std::string>> open_;
    std::string first_;
};

}  // namespace

std::string printable(std::string text) {
    text.resize(std::min<std::size_t>(text.size(), 40));
    return legible(std::move(text));
}

Result<JsonObject> JsonObject::parse(std::string_view text, std::size_t max_size, std::string_view what) {
    const auto invalid = [&](const std::string &why) { return fail(ErrorCode::kInvalid, "{} {}", what, why); };
    if (text.size() > max_size)
        return invalid(fmt::format("has at most {} bytes, this file {}", max_size, text.size()));
    if (const auto nul = text.find('\0'); nul != std::string_view::npos)  // nlohmann takes it for the end
        return invalid(fmt::format("is a JSON object, this is not: see its byte {}", nul + 1));
    try {
        Duplicates duplicates;
        Json object = Json::parse(text, std::ref(duplicates));
        if (!duplicates.first().empty())
            return invalid(fmt::format("has each field once, this one '{}' twice", duplicates.first()));
        if (!object.is_object()) return invalid("is a JSON object, this is something else");
        return JsonObject(std::move(object), what);
    } catch (const Json::parse_error &error) {
        return invalid(fmt::format("is a JSON object, this is not: see its byte {}", error.byte));
    } catch (const Json::exception &) {  // a number that no type holds
        return invalid("is a JSON object, this is not");
    }
}

Result<const Json *> JsonObject::field(std::string_view name) const {
    const auto found = object_.find(std::string(name));
    if (found == object_.end()) return invalid("must have the field '{}'", name);
    return &*found;
}

Result<std::string> JsonObject::text(std::string_view name) const {
    VTPM_ASSIGN(const Json *value, field(name));
    if (!value->is_string()) return invalid("must have a string as '{}'", name);
    return value->get<std::string>();
}

Result<std::uint32_t> JsonObject::number(std::string_view name) const {
    VTPM_ASSIGN(const Json *value, field(name));
    if (!value->is_number_unsigned() || *value > std::numeric_limits<std::uint32_t>::max())
        return invalid("must have a number of 32 bits as '{}'", name);
    return value->get<std::uint32_t>();
}

Result<Bytes> JsonObject::bytes(std::string_view name, std::size_t max) const {
    VTPM_ASSIGN(const std::string given, text(name));
    auto bytes = from_base64(given);
    if (!bytes || bytes->empty() || bytes->size() > max)
        return invalid("must have base64 of 1 to {} bytes as '{}'", max, name);
    return std::move(*bytes);
}

Result<std::string> JsonObject::fingerprint(std::string_view name) const {
    constexpr std::string_view kPrefix = "SHA256:";
    VTPM_ASSIGN(std::string given, text(name));
    const auto digest = from_hex(std::string_view(given).substr(std::min(kPrefix.size(), given.size())));
    if (!given.starts_with(kPrefix) || !digest || digest->size() != SHA256_DIGEST_LENGTH)
        return invalid("must have a key's fingerprint as '{}', \"SHA256:\" and 64 hexadecimal digits", name);
    return given;
}

Result<std::vector<std::string>> JsonObject::texts(std::string_view name, std::size_t max) const {
    VTPM_ASSIGN(const Json *value, field(name));
    if (!value->is_array() || value->size() > max)
        return invalid("must have an array of at most {} strings as '{}'", max, name);
    std::vector<std::string> texts;
    for (const Json &element : *value) {
        if (!element.is_string()) return invalid("must have nothing but strings in '{}'", name);
        texts.push_back(element.get<std::string>());
    }
    return texts;
}

Result<std::vector<JsonObject>> JsonObject::objects(std::string_view name, std::size_t max) const {
    VTPM_ASSIGN(const Json *value, field(name));
    std::vector<JsonObject> objects;
    if (!value->is_array() || value->size() > max)
        return invalid("must have an array of at most {} objects as '{}'", max, name);
    for (const Json &element : *value) {
        if (!element.is_object()) return invalid("must have nothing but objects in '{}'", name);
        objects.push_back(JsonObject(element, what_));
    }
    return objects;
}

Result<> JsonObject::require_format(std::string_view format, std::span<const std::string_view> fields) const {
    VTPM_ASSIGN(const std::string given, text("format"));
    if (given != format) return invalid("must have the 'format' {}, this one has {}", format, printable(given));
    return require_only(fields);
}

Result<> JsonObject::require_only(std::span<const std::string_view> fields) const {
    for (const auto &[name, value] : object_.items())
        if (std::ranges::find(fields, name) == fields.end()) return invalid("has no field '{}'", printable(name));
    return {};
}

Result<JsonObject> JsonObject::object(std::string_view name) const {
    VTPM_ASSIGN(const Json *value, field(name));
    if (!value->is_object()) return invalid("must have an object as '{}'", name);
    return JsonObject(*value, what_);
}

}  // namespace vtpm
