// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/launch_commands.hpp"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <optional>

#include "base/unique_fd.hpp"
#include "launch/event_log.hpp"
#include "launch/mapped_file.hpp"
#include "launch/pcrs.hpp"
#include "manager/boot/launch_approval.hpp"
#include "manager/boot/launch_release.hpp"
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

namespace {

Result<Uuid> vtpm_of(const std::string &text) {
    const auto uuid = Uuid::parse(text);
    if (!uuid) return fail(ErrorCode::kInvalid, "'{}' is not a UUID", text);
    return *uuid;
}

std::string label_of(const SignLaunchesOrder &order, std::size_t at) {
    if (!order.labels.empty()) return order.labels.at(at);
    return std::filesystem::path(order.values.at(at)).stem().string();
}

Result<LaunchTerms> terms_of(const SignLaunchesOrder &order) {
    if (!order.labels.empty() && order.labels.size() != order.values.size())
        return fail(ErrorCode::kInvalid, "{} files of values, and {} labels: one for each, or none",
                    order.values.size(), order.labels.size());
    LaunchTerms terms{order.group, order.generation, {}, {}};
    for (const std::string &text : order.vtpms) {
        VTPM_ASSIGN(const Uuid vtpm, vtpm_of(text));
        terms.vtpms.push_back(vtpm);
    }
    for (std::size_t i = 0; i < order.values.size(); ++i) {
        VTPM_ASSIGN(const std::string text, read_input(order.values[i]));
        auto values = parse_measured_boot(text);
        if (!values) return fail(values.error().code, "{}: {}", order.values[i], values.error().text);
        terms.launches.push_back({label_of(order, i), values->pcrs, std::move(values->values)});
    }
    return terms;
}

}  // namespace

Result<Json> sign_launches(const SignLaunchesOrder &order) {
    VTPM_ASSIGN(LaunchTerms terms, terms_of(order));
    VTPM_ASSIGN(const SecretBytes key, read_key(order.key));
    VTPM_ASSIGN(const LaunchApproval approval, LaunchApproval::sign(key.view(), std::move(terms)));
    return Json::parse(approval.to_json());
}

Result<Json> release_launch(const ReleaseOrder &order) {
    VTPM_ASSIGN(const Uuid vtpm, vtpm_of(order.uuid));
    VTPM_ASSIGN(const SecretBytes key, read_key(order.key));
    VTPM_ASSIGN(const LaunchRelease release,
                LaunchRelease::sign(key.view(), vtpm, from_hex(order.binding).value_or(Bytes())));
    return Json::parse(release.to_json());
}

Result<Json> set_launch(Daemons &daemons, const SetLaunchOrder &order) {
    VTPM_TRY(vtpm_of(order.uuid));
    std::string release;
    if (!order.release.empty()) {
        VTPM_ASSIGN(release, read_input(order.release));
    }
    VTPM_TRY(daemons.set_launch(order.uuid, order.launch, release));
    return show(daemons, order.uuid);
}

Result<Json> install_launches(Daemons &daemons, const std::string &file) {
    VTPM_ASSIGN(const std::string document, read_input(file));
    VTPM_ASSIGN(const std::string id, daemons.install_launches(document));
    VTPM_ASSIGN(const Json approvals, list_launches(daemons));
    for (const Json &approval : approvals)
        if (approval.value("approval", "") == id) return approval;
    return fail(ErrorCode::kNotFound, "the launch approval {} was removed meanwhile", id);
}

Result<Json> list_launches(Daemons &daemons) {
    VTPM_ASSIGN(const auto approvals, daemons.launches());
    return json_of(approvals);
}

Result<Json> remove_launches(Daemons &daemons, const std::string &id) {
    VTPM_TRY(daemons.remove_launches(id));
    return Json{{"approval", id}, {"removed", true}};
}

}  // namespace vtpm::cli
