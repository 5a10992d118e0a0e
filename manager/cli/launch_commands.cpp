// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/launch_commands.hpp"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "base/unique_fd.hpp"
#include "launch/event_log.hpp"
#include "launch/mapped_file.hpp"
#include "launch/pcrs.hpp"
#include "manager/boot/measured_boot.hpp"
#include "manager/cli/files.hpp"
#include "manager/cli/guest_tpm.hpp"
#include "manager/crypto/encoding.hpp"

namespace vtpm::cli {
namespace {

// PCRs 0 and 1: the host adds what it is, and what the guest is. Others are extended by the guest's own system only.
constexpr std::array kLaunchPcrs{2U, 3U, 4U, 5U, 6U, 7U, 8U, 9U, 11U, 12U, 13U, 14U};

Result<launch::MappedFile> map_file(const std::string &path) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file) return fail(ErrorCode::kNotFound, "{} cannot be read: {}", path, std::strerror(errno));
    return launch::MappedFile::map(file.get(), path);
}

Result<PcrSelection> launch_pcrs(const std::string &text) {
    VTPM_ASSIGN(PcrSelection pcrs, PcrSelection::parse(text));
    if (pcrs.empty()) return fail(ErrorCode::kInvalid, "no PCR is chosen: --pcrs sha256:4,9,11, for instance");
    for (const unsigned pcr : pcrs.numbers())
        if (std::ranges::find(kLaunchPcrs, pcr) == kLaunchPcrs.end())
            return fail(ErrorCode::kInvalid,
                        "PCR {} cannot be predicted from files: {}; choose among 2 to 9 and 11 to 14 (--pcrs)", pcr,
                        pcr < 2 ? "the host measures itself into it" : "the guest's own system extends it");
    return pcrs;
}

Result<launch::BootImage> read_image(const std::string &path, ByteView file, bool must_be_uki) {
    auto image = launch::read_boot_image(file);
    if (!image) return fail(image.error().code, "{}: {}", path, image.error().text);
    if (must_be_uki && !image->uki)
        return fail(ErrorCode::kInvalid, "{} is not a UKI: it has no section .linux; use --kernel", path);
    return image;
}

Result<launch::EventLog> predicted_log(const LaunchOrder &order) {
    const std::string &path = order.uki.empty() ? order.kernel : order.uki;
    VTPM_ASSIGN(const launch::MappedFile file, map_file(path));
    VTPM_ASSIGN(const launch::BootImage image, read_image(path, file.bytes(), !order.uki.empty()));
    std::optional<launch::MappedFile> initrd;
    if (!order.initrd.empty()) {
        VTPM_ASSIGN(launch::MappedFile mapped, map_file(order.initrd));
        initrd.emplace(std::move(mapped));
    }
    const launch::LaunchFiles files{file.bytes(), initrd ? std::optional(initrd->bytes()) : std::nullopt,
                                    order.command_line};
    VTPM_ASSIGN(const auto measured, launch::measure(files, image, launch::all_banks()));
    VTPM_ASSIGN(launch::Events events, launch::launch_events(measured));
    return launch::EventLog{launch::all_banks(), std::move(events)};
}

// PCRs that nothing extends are zero.
Result<PcrValues> predicted_values(const launch::EventLog &log, const PcrSelection &pcrs) {
    const std::string &text = pcrs.to_string();
    const auto bank = launch::hash_named(text.substr(0, text.find(':')));
    if (!bank) return fail(ErrorCode::kInvalid, "there is no bank {}", text);
    VTPM_ASSIGN(launch::PcrBank all, launch::pcrs_after(log.events, *bank));
    PcrValues values;
    for (const unsigned pcr : pcrs.numbers()) {
        const auto value = all.find(pcr);
        values[pcr] = value != all.end() ? value->second : Bytes(launch::digest_size(*bank));
    }
    return values;
}

// A new file; none if it has no name.
Result<> write_bytes(const std::string &path, const Bytes &bytes) {
    if (path.empty()) return {};
    return write_output(path, {reinterpret_cast<const char *>(bytes.data()), bytes.size()});  // bytes as text
}

std::string for_cryptenroll(const PcrSelection &pcrs, const PcrValues &values) {
    const std::string bank = pcrs.to_string().substr(0, pcrs.to_string().find(':'));
    std::string text;
    for (const auto &[pcr, value] : values)
        text += fmt::format("{}{}:{}={}", text.empty() ? "" : "+", pcr, bank, to_hex(value));
    return text;
}

}  // namespace

Result<Json> show_event_log(const EventLogOrder &order) {
    VTPM_ASSIGN(const PcrSelection pcrs, PcrSelection::parse(order.pcrs));
    VTPM_ASSIGN(const Bytes log, read_guest_event_log(order.device));
    VTPM_TRY(write_bytes(order.raw, log));
    VTPM_ASSIGN(BootLog boot, parse_event_log(log, pcrs));
    VTPM_ASSIGN(PcrValues values, replayed(boot, pcrs));
    return Json::parse(to_json(MeasuredBoot{pcrs, std::move(values), std::move(boot.events), {}}));
}

Result<Json> predict_launch(const LaunchOrder &order) {
    VTPM_ASSIGN(const PcrSelection pcrs, launch_pcrs(order.pcrs));
    VTPM_ASSIGN(const launch::EventLog log, predicted_log(order));
    VTPM_ASSIGN(const Bytes bytes, launch::write_event_log(log));
    VTPM_ASSIGN(PcrValues values, predicted_values(log, pcrs));
    VTPM_ASSIGN(auto log_of_pcrs, parse_event_log(bytes, pcrs));
    VTPM_TRY(write_bytes(order.event_log, bytes));
    VTPM_TRY(write_bytes(order.raw_values, joined(values)));
    const std::string tpm2_pcrs = for_cryptenroll(pcrs, values);
    Json document = Json::parse(to_json(MeasuredBoot{pcrs, std::move(values), std::move(log_of_pcrs.events), {}}));
    document["tpm2_pcrs"] = tpm2_pcrs;
    return document;
}

}  // namespace vtpm::cli
