// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/meter_commands.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <thread>
#include <vector>

#include "manager/cli/meters.hpp"
#include "manager/cli/text.hpp"

namespace vtpm::cli {
namespace {

// A device that is put in the place of another has another vTPM.
std::string key_of(const Json &meter) { return meter.value("device", "") + " " + meter.value("uuid", ""); }

// An engine's counts only grow: where one is less than it was, another engine has begun.
bool is_of_another_engine(const Json &before, const Json &after) {
    return number(after, "commands") < number(before, "commands") || number(after, "stores") < number(before, "stores");
}

// `before`: empty, if this engine was not there then.
Json row_of(const Json &before, const Json &after, double seconds, const Json &names) {
    const auto grown = [](std::uint64_t now, std::uint64_t then) { return now >= then ? now - then : 0; };
    const auto count = [&](const char *name) { return grown(number(after, name), number(before, name)); };
    const auto per_second = [&](std::uint64_t counted) { return static_cast<double>(counted) / seconds; };
    Latency latency = latency_of(after);
    std::ranges::transform(latency, latency_of(before), latency.begin(), grown);
    const std::string uuid = after.value("uuid", "");
    return {{"name", names.value(uuid, "")},
            {"uuid", uuid},
            {"device", after.value("device", "")},
            {"commands_per_second", per_second(count("commands"))},
            {"p50_us", latency_quantile(latency, 0.5)},
            {"p99_us", latency_quantile(latency, 0.99)},
            {"errors_per_second", per_second(grown(all_errors(after), all_errors(before)))},
            {"stores_per_second", per_second(count("stores"))}};
}

Json names_of(const bus::Rows &vtpms) {
    Json names = Json::object();
    for (const Json &vtpm : json_of(vtpms)) names[vtpm.value("uuid", "")] = vtpm_name(vtpm);
    return names;
}

Result<Json> meters(Daemons &daemons) {
    VTPM_ASSIGN(const auto rows, daemons.meters());
    if (!rows) return fail(ErrorCode::kUnavailable, "xen-vtpmd does not run; see: systemctl status xen-vtpmd");
    return json_of(*rows);
}

struct TopOptions {
    double seconds = 2;
    unsigned times = 0;  // 0: until somebody ends it
    const bool *json = nullptr;
};

// A terminal's lines, but for the headings and the prompt.
std::size_t rows_on_screen() {
    constexpr std::size_t kOthers = 4;
    winsize size{};
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row <= kOthers) return 0;
    return size.ws_row - kOthers;
}

// Names are asked for once: a guest that comes meanwhile has its UUID.
Result<Json> watch(Daemons &daemons, const TopOptions &options) {
    if (!(options.seconds >= 0.1 && options.seconds <= 3600))  // nan is neither
        return fail(ErrorCode::kInvalid, "--delay: 0.1 to 3600 seconds");
    const bool is_screen = ::isatty(STDOUT_FILENO) != 0;
    const unsigned times = options.times == 0 && !is_screen ? 1 : options.times;
    const auto vtpms = daemons.list();
    const Json names = names_of(vtpms ? *vtpms : bus::Rows{});  // without the manager, too
    VTPM_ASSIGN(Json before, meters(daemons));
    for (unsigned turn = 1;; ++turn) {
        const auto began = std::chrono::steady_clock::now();
        std::this_thread::sleep_for(std::chrono::duration<double>(options.seconds));
        VTPM_ASSIGN(Json after, meters(daemons));
        Json top = top_of(before, after, std::chrono::steady_clock::now() - began, names);
        if (turn == times) return top;
        if (*options.json) {
            std::printf("%s\n", top.dump(2).c_str());
        } else {
            constexpr const char *kClear = "\033[H\033[2J";
            std::printf("%s%s", is_screen ? kClear : "", top_text(top, rows_on_screen()).c_str());
        }
        if (std::fflush(stdout) != 0) return fail(ErrorCode::kSystem, "nobody reads what is printed");
        before = std::move(after);
    }
}

std::string top_as(const Json &top, const TopOptions &options) {
    return top_text(top, options.times == 0 ? 0 : rows_on_screen());
}

}  // namespace

Json top_of(const Json &before, const Json &after, std::chrono::duration<double> between, const Json &names) {
    const double seconds = std::max(between.count(), 1e-3);
    std::map<std::string, const Json *> former;
    for (const Json &device : before) former.emplace(key_of(device), &device);
    const Json nothing = Json::object();
    std::vector<Json> rows;
    for (const Json &device : after) {
        const auto found = former.find(key_of(device));
        const bool is_there = found != former.end() && !is_of_another_engine(*found->second, device);
        rows.push_back(row_of(is_there ? *found->second : nothing, device, seconds, names));
    }
    std::ranges::stable_sort(rows, std::ranges::greater{},
                             [](const Json &row) { return row.at("commands_per_second").get<double>(); });
    return rows;
}

std::string top_text(const Json &top, std::size_t rows) {
    double commands = 0;
    double errors = 0;
    for (const Json &row : top) {
        commands += row.at("commands_per_second").get<double>();
        errors += row.at("errors_per_second").get<double>();
    }
    std::string out = fmt::format("{} TPMs run, {:.1f} commands/s, {:.1f} errors/s\n", top.size(), commands, errors);
    if (top.empty()) return out;
    out += fmt::format("{:<36}  {:>7}  {:>10}  {:>8}  {:>8}  {:>8}  {:>8}\n", "NAME", "DOMAIN", "COMMANDS/S", "P50",
                       "P99", "ERRORS/S", "STORES/S");
    const auto time = [](const Json &row, const char *name) {
        const auto us = row.at(name).get<std::uint64_t>();
        return us == 0 ? std::string("-") : duration(us);
    };
    const std::size_t shown = rows == 0 ? top.size() : std::min(rows, top.size());
    for (std::size_t i = 0; i < shown; ++i) {
        const Json &row = top.at(i);
        const std::string name = text(row, "name");
        const std::string device = text(row, "device");
        out += fmt::format("{:<36}  {:>7}  {:>10.1f}  {:>8}  {:>8}  {:>8.1f}  {:>8.1f}\n",
                           name.empty() ? text(row, "uuid") : name, device.substr(0, device.find('/')),
                           row.at("commands_per_second").get<double>(), time(row, "p50_us"), time(row, "p99_us"),
                           row.at("errors_per_second").get<double>(), row.at("stores_per_second").get<double>());
    }
    if (shown < top.size()) out += fmt::format("{} more\n", top.size() - shown);
    return out;
}

void add_meter_commands(const Menu &menu) {
    auto [command, options] =
        menu.add<TopOptions>("top", "Show what guests do with their TPMs now: the busiest first", watch, top_as);
    options.json = &menu.json();
    command.add_option("-d,--delay", options.seconds, "Over how long it is counted each time; default: 2")
        ->type_name("SECONDS");
    command.add_option("-n,--times", options.times, "How many times; default: once, and on a terminal until Ctrl-C")
        ->check(CLI::Range(1U, 1'000'000U))
        ->type_name("NUMBER");
}

}  // namespace vtpm::cli
