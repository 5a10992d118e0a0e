// SPDX-License-Identifier: Apache-2.0
#include "backend/launch/request.hpp"

#include <algorithm>

#include "base/number.hpp"

namespace vtpm::launch {
namespace {

constexpr std::size_t kMaxItem = 8191;  // bytes, NUL included

// The value of "--name=value".
std::optional<std::string> value_of(std::string_view argument, std::string_view name) {
    if (!argument.starts_with(name) || argument.size() == name.size() || argument[name.size()] != '=')
        return std::nullopt;
    return std::string(argument.substr(name.size() + 1));
}

// libxl names the directory after the domain: /var/lib/xen/bootloader.DOMID.d
std::optional<std::uint32_t> domain_of(std::string_view directory) {
    const std::string_view name = directory.substr(directory.find_last_of('/') + 1);
    constexpr std::string_view kPrefix = "bootloader.";
    if (!name.starts_with(kPrefix) || !name.ends_with(".d")) return std::nullopt;
    const auto domain = parse_number(name.substr(kPrefix.size(), name.size() - kPrefix.size() - 2));
    return domain == 0U ? std::nullopt : domain;
}

// Whether `argument` was one of ours.
bool take_option(const std::string &argument, Request &request) {
    const std::pair<const char *, std::string *> options[] = {{"--kernel", &request.kernel},
                                                              {"--ramdisk", &request.ramdisk},
                                                              {"--args", &request.arguments},
                                                              {"--output", &request.output},
                                                              {"--output-directory", &request.output_directory},
                                                              {"--pygrub", &request.pygrub}};
    for (const auto &[name, value] : options)
        if (auto given = value_of(argument, name)) {
            *value = std::move(*given);
            return true;
        }
    return false;
}

Result<> take_item(std::string_view item, Answer &answer) {
    const std::size_t space = item.find(' ');
    const std::string_view key = item.substr(0, space);
    std::string value(space == std::string_view::npos ? "" : item.substr(space + 1));
    if (key == "kernel")
        answer.kernel = std::move(value);
    else if (key == "ramdisk")
        answer.ramdisk = std::move(value);
    else if (key == "args")
        answer.arguments = std::move(value);
    else
        return fail(ErrorCode::kInvalid, "the boot loader's answer has an item of an unknown kind");
    return {};
}

}  // namespace

Result<Request> parse_request(const std::vector<std::string> &arguments) {
    Request request;
    bool format_given = false;
    for (const std::string &argument : arguments) {
        if (const auto format = value_of(argument, "--output-format")) {
            if (*format != "simple0")
                return fail(ErrorCode::kInvalid, "output format '{}' is not known: libxl asks for simple0", *format);
            format_given = true;
        } else if (!take_option(argument, request)) {
            request.others.push_back(argument);
        }
    }
    if (!format_given || request.output.empty() || request.output_directory.empty() || request.others.empty())
        return fail(ErrorCode::kInvalid,
                    "libxl calls this program, for bootloader=\"xen-vtpm-launch\" in a guest's configuration, with "
                    "--output=, --output-format=simple0, --output-directory= and a disk");
    request.disk = request.others.back();
    request.others.pop_back();
    const auto domain = domain_of(request.output_directory);
    if (!domain)
        return fail(ErrorCode::kInvalid, "the output directory '{}' names no guest: it must end in bootloader.DOMID.d",
                    request.output_directory);
    request.domain = *domain;
    return request;
}

std::string to_simple0(const Answer &answer) {
    std::string text = "kernel " + answer.kernel + '\0';
    if (answer.ramdisk) text += "ramdisk " + *answer.ramdisk + '\0';
    return text + "args " + answer.arguments + '\0';
}

Result<Answer> parse_simple0(std::string_view text) {
    Answer answer;
    while (!text.empty()) {
        const std::size_t end = text.find('\0');
        if (end >= kMaxItem)  // there is none, or it is too far
            return fail(ErrorCode::kInvalid, "the boot loader's answer is cut off, or too long");
        if (end > 0) VTPM_TRY(take_item(text.substr(0, end), answer));  // pygrub ends with an empty one
        text.remove_prefix(end + 1);
    }
    if (answer.kernel.empty()) return fail(ErrorCode::kInvalid, "the boot loader names no kernel");
    return answer;
}

}  // namespace vtpm::launch
