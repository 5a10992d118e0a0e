// SPDX-License-Identifier: Apache-2.0
#include "shared-protocol/record_launch.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <string>

namespace vtpm {
namespace {

constexpr std::uint32_t kFirstReservedDomain = 0x7ff0;  // xen/include/public/xen.h

template <typename T>
bool read_number(std::string_view text, T &value, int base) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    return error == std::errc{} && end == text.data() + text.size();
}

}  // namespace

bus::Arguments arguments_of(const RecordLaunch &launch) {
    return {std::to_string(launch.domain), fmt::format("{:02x}", fmt::join(launch.log, ""))};
}

Result<RecordLaunch> parse_record_launch(const bus::Arguments &arguments) {
    if (arguments.size() != 2) return fail(ErrorCode::kInvalid, "{} takes a domain and a log", kRecordLaunch);
    const std::string &log = arguments[1];
    RecordLaunch launch;
    if (!read_number(arguments[0], launch.domain, 10) || launch.domain == 0 || launch.domain >= kFirstReservedDomain)
        return fail(ErrorCode::kInvalid, "'{}' is not a guest's number", arguments[0].substr(0, 16));
    if (log.empty() || log.size() % 2 != 0 || log.size() / 2 > kMaxLaunchLog)
        return fail(ErrorCode::kInvalid, "the log of domain {} is empty or has more than {} bytes", launch.domain,
                    kMaxLaunchLog);
    launch.log.resize(log.size() / 2);
    for (std::size_t i = 0; i < launch.log.size(); ++i)
        if (!read_number(std::string_view(log).substr(2 * i, 2), launch.log[i], 16))
            return fail(ErrorCode::kInvalid, "the log of domain {} is not hexadecimal", launch.domain);
    return launch;
}

}  // namespace vtpm
