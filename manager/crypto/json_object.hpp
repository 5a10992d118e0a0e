// SPDX-License-Identifier: Apache-2.0
// One JSON object that comes from outside, read as strictly as ours are written. Errors are kInvalid and begin with
// what it is meant to be.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"

namespace vtpm {

using Json = nlohmann::ordered_json;

class JsonObject {
public:
    // `what`: "a boot policy". Each field stands once, at any depth.
    static Result<JsonObject> parse(std::string_view text, std::size_t max_size, std::string_view what);

    // Its 'format', which also tells a later version from a damaged file, and no fields but `fields`.
    [[nodiscard]] Result<> require_format(std::string_view format, std::span<const std::string_view> fields) const;
    [[nodiscard]] Result<> require_only(std::span<const std::string_view> fields) const;

    [[nodiscard]] bool has(std::string_view name) const { return object_.contains(name); }
    [[nodiscard]] const Json &all() const { return object_; }
    [[nodiscard]] Result<std::string> text(std::string_view name) const;
    [[nodiscard]] Result<std::uint32_t> number(std::string_view name) const;
    // Base64 of 1 to `max` bytes.
    [[nodiscard]] Result<Bytes> bytes(std::string_view name, std::size_t max) const;
    // A key's, as ApproverKey::fingerprint() gives it.
    [[nodiscard]] Result<std::string> fingerprint(std::string_view name) const;
    // An array of at most `max` strings.
    [[nodiscard]] Result<std::vector<std::string>> texts(std::string_view name, std::size_t max) const;
    // An array of at most `max` objects.
    [[nodiscard]] Result<std::vector<JsonObject>> objects(std::string_view name, std::size_t max) const;
    [[nodiscard]] Result<JsonObject> object(std::string_view name) const;

    template <typename... Args>
    [[nodiscard]] tl::unexpected<Error> invalid(fmt::format_string<Args...> format, Args &&...args) const {
        return fail(ErrorCode::kInvalid, "{} {}", what_, fmt::format(format, std::forward<Args>(args)...));
    }

private:
    JsonObject(Json object, std::string_view what) : object_(std::move(object)), what_(what) {}
    [[nodiscard]] Result<const Json *> field(std::string_view name) const;

    Json object_;
    std::string what_;
};

// For error texts: short, and nothing that a terminal or a log would obey.
std::string printable(std::string text);

}  // namespace vtpm
