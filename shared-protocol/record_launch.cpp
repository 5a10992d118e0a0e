// SPDX-License-Identifier: Apache-2.0
#include "shared-protocol/record_launch.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>

#include "base/number.hpp"

namespace vtpm {
namespace {

constexpr std::uint32_t kFirstReservedDomain = 0x7ff0;  // xen/include/public/xen.h

}  // namespace

bus::Arguments arguments_of(const RecordLaunch &launch) {
    return {std::to_string(launch.domain), fmt::format("{:02x}", fmt::join(launch.log, ""))};
}

Result<RecordLaunch> parse_record_launch(const bus::Arguments &arguments) {
    if (arguments.size() != 2) return fail(ErrorCode::kInvalid, "{} takes a domain and a log", kRecordLaunch);
    const std::string &log = arguments[1];
    const auto domain = parse_number(arguments[0]);
    if (!domain || *domain == 0 || *domain >= kFirstReservedDomain)
        return fail(ErrorCode::kInvalid, "'{}' is not a guest's number", arguments[0].substr(0, 16));
    RecordLaunch launch{*domain, {}};
    if (log.empty() || log.size() % 2 != 0 || log.size() / 2 > kMaxLaunchLog)
        return fail(ErrorCode::kInvalid, "the log of domain {} is empty or has more than {} bytes", launch.domain,
                    kMaxLaunchLog);
    launch.log.resize(log.size() / 2);
    for (std::size_t i = 0; i < launch.log.size(); ++i) {
        const auto byte = parse_number<std::uint8_t>(std::string_view(log).substr(2 * i, 2), 16);
        if (!byte) return fail(ErrorCode::kInvalid, "the log of domain {} is not hexadecimal", launch.domain);
        launch.log[i] = *byte;
    }
    return launch;
}

}  // namespace vtpm
