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
#include "manager/cli/text.hpp"
#include "manager/crypto/encoding.hpp"

namespace vtpm::cli {
namespace {

// `kernel` or `uki`.
struct LaunchOptions {
    std::string kernel;
    std::string initrd;
    std::string command_line;  // empty: that of a UKI
    std::string uki;
    std::string pcrs = "sha256:4,8,9,11,12";
    std::string event_log;   // a new file for the log, in all banks; empty: none
    std::string raw_values;  // a new file for the values, one after the other; empty: none
};

struct EventLogOptions {
    std::string pcrs = "sha256:0-15";
    std::string raw;  // a new file for the log; empty: none
    std::string device = "/dev/tpm0";
};

// PCRs 0 and 1: the host adds what it is, and what the guest is. Others are extended by the guest's own system only.
constexpr std::array kLaunchPcrs{2U, 3U, 4U, 5U, 6U, 7U, 8U, 9U, 11U, 12U, 13U, 14U};

Result<launch::MappedFile> map_file(const std::string &path) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file) return cannot("be read", path);
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

Result<launch::EventLog> predicted_log(const LaunchOptions &options) {
    const std::string &path = options.uki.empty() ? options.kernel : options.uki;
    VTPM_ASSIGN(const launch::MappedFile file, map_file(path));
    VTPM_ASSIGN(const launch::BootImage image, read_image(path, file.bytes(), !options.uki.empty()));
    std::optional<launch::MappedFile> initrd;
    if (!options.initrd.empty()) {
        VTPM_ASSIGN(launch::MappedFile mapped, map_file(options.initrd));
        initrd.emplace(std::move(mapped));
    }
    const launch::LaunchFiles files{file.bytes(), initrd ? std::optional(initrd->bytes()) : std::nullopt,
                                    options.command_line};
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

// As of policy measure: the events of this guest's TPM, and what they make of its PCRs. kNotFound: it has no log.
Result<Json> show_event_log(const EventLogOptions &options) {
    VTPM_ASSIGN(const PcrSelection pcrs, PcrSelection::parse(options.pcrs));
    VTPM_ASSIGN(const Bytes log, read_guest_event_log(options.device));
    VTPM_TRY(write_bytes(options.raw, log));
    VTPM_ASSIGN(BootLog boot, parse_event_log(log, pcrs));
    VTPM_ASSIGN(PcrValues values, replayed(boot, pcrs));
    return Json::parse(to_json(MeasuredBoot{pcrs, std::move(values), std::move(boot.events), {}}));
}

// As of policy measure, and tpm2_pcrs: for systemd-cryptenroll's --tpm2-pcrs.
Result<Json> predict_launch(const LaunchOptions &options) {
    VTPM_ASSIGN(const PcrSelection pcrs, launch_pcrs(options.pcrs));
    VTPM_ASSIGN(const launch::EventLog log, predicted_log(options));
    VTPM_ASSIGN(const Bytes bytes, launch::write_event_log(log));
    VTPM_ASSIGN(PcrValues values, predicted_values(log, pcrs));
    VTPM_ASSIGN(auto log_of_pcrs, parse_event_log(bytes, pcrs));
    VTPM_TRY(write_bytes(options.event_log, bytes));
    VTPM_TRY(write_bytes(options.raw_values, joined(values)));
    const std::string tpm2_pcrs = for_cryptenroll(pcrs, values);
    Json document = Json::parse(to_json(MeasuredBoot{pcrs, std::move(values), std::move(log_of_pcrs.events), {}}));
    document["tpm2_pcrs"] = tpm2_pcrs;
    return document;
}

struct LaunchPolicyOptions {
    std::string vtpm;
    std::string policy;
    std::string release;  // file of launch release; empty: none
};

Result<Json> set_launch(Daemons &daemons, const LaunchPolicyOptions &options) {
    VTPM_ASSIGN(const std::string uuid, resolve(daemons, options.vtpm));
    std::string release;
    if (!options.release.empty()) {
        VTPM_ASSIGN(release, read_input(options.release));
    }
    VTPM_TRY(daemons.set_launch(uuid, options.policy, release));
    return show_vtpm(daemons, uuid);
}

// `values`: files of launch predict; their names, without ".json", are the labels where there are none of these.
struct SignLaunchesOptions {
    std::string key;
    std::string group = "default";
    std::uint32_t generation = 1;
    std::vector<std::string> vtpms;
    std::vector<std::string> labels;
    std::vector<std::string> values;
};

Result<Uuid> vtpm_of(const std::string &text) {
    VTPM_TRY(require_uuid(text));
    return *Uuid::parse(text);
}

std::string label_of(const SignLaunchesOptions &options, std::size_t at) {
    if (!options.labels.empty()) return options.labels.at(at);
    return std::filesystem::path(options.values.at(at)).stem().string();
}

Result<LaunchTerms> terms_of(const SignLaunchesOptions &options) {
    if (!options.labels.empty() && options.labels.size() != options.values.size())
        return fail(ErrorCode::kInvalid, "{} files of values, and {} labels: one for each, or none",
                    options.values.size(), options.labels.size());
    LaunchTerms terms{options.group, options.generation, {}, {}};
    for (const std::string &text : options.vtpms) {
        VTPM_ASSIGN(const Uuid vtpm, vtpm_of(text));
        terms.vtpms.push_back(vtpm);
    }
    for (std::size_t i = 0; i < options.values.size(); ++i) {
        VTPM_ASSIGN(const std::string text, read_input(options.values[i]));
        auto values = parse_measured_boot(text);
        if (!values) return fail(values.error().code, "{}: {}", options.values[i], values.error().text);
        terms.launches.push_back({label_of(options, i), values->pcrs, std::move(values->values)});
    }
    return terms;
}

// The document, which is the file to install.
Result<Json> sign_launches(const SignLaunchesOptions &options) {
    VTPM_ASSIGN(LaunchTerms terms, terms_of(options));
    VTPM_ASSIGN(const SecretBytes key, read_key(options.key));
    VTPM_ASSIGN(const LaunchApproval approval, LaunchApproval::sign(key.view(), std::move(terms)));
    return Json::parse(approval.to_json());
}

struct ReleaseOptions {
    std::string key;
    std::string uuid;
    std::string binding;
};

// The document, for `launch set --release`.
Result<Json> release_launch(const ReleaseOptions &options) {
    VTPM_ASSIGN(const Uuid vtpm, vtpm_of(options.uuid));
    VTPM_ASSIGN(const SecretBytes key, read_key(options.key));
    VTPM_ASSIGN(const LaunchRelease release,
                LaunchRelease::sign(key.view(), vtpm, from_hex(options.binding).value_or(Bytes())));
    return Json::parse(release.to_json());
}

Result<Json> list_launches(Daemons &daemons) {
    VTPM_ASSIGN(const auto approvals, daemons.launches());
    return json_of(approvals);
}

struct ApprovalFileOptions {
    std::string file;
};

Result<Json> install_launches(Daemons &daemons, const ApprovalFileOptions &options) {
    VTPM_ASSIGN(const std::string document, read_input(options.file));
    VTPM_ASSIGN(const std::string id, daemons.install_launches(document));
    VTPM_ASSIGN(const Json approvals, list_launches(daemons));
    for (const Json &approval : approvals)
        if (approval.value("approval", "") == id) return approval;
    return fail(ErrorCode::kNotFound, "the launch approval {} was removed meanwhile", id);
}

struct ApprovalOptions {
    std::string id;
};

Result<Json> remove_launches(Daemons &daemons, const ApprovalOptions &options) {
    VTPM_TRY(daemons.remove_launches(options.id));
    return Json{{"approval", options.id}, {"removed", true}};
}

void add_predict(const Menu &launch) {
    auto [predict, options] = launch.add<LaunchOptions>(
        "predict", "Predict a guest's PCRs from what it will boot; needs no daemon and no TPM", predict_launch,
        predict_launch_text);
    auto *image = predict.add_option_group("what is booted");
    image->add_option("--kernel", options.kernel, "Kernel, as kernel= of the guest's configuration");
    image->add_option("--uki", options.uki, "Unified kernel image");
    image->require_option(1);
    predict.add_option("--initrd", options.initrd, "Initrd, as ramdisk= of the guest's configuration");
    predict.add_option("--cmdline", options.command_line,
                       "Command line of the kernel; default: that of a UKI, or none");
    predict.add_option("--pcrs", options.pcrs, "PCRs among 2 to 9 and 11 to 14, and their bank")->capture_default_str();
    predict.add_option("--raw", options.raw_values, "New file for the values, as tpm2_policypcr --pcr reads them");
    predict.add_option("--event-log", options.event_log, "New file for the event log that the guest will see");
}

void add_set(const Menu &launch) {
    auto [set, options] = launch.add<LaunchPolicyOptions>(
        "set", "Set what a vTPM asks of its guest's launch, from its next power-on", set_launch, show_text);
    set.add_option("VTPM", options.vtpm, kVtpmHelp)->required();
    set.add_option(
           "POLICY", options.policy,
           "off: nothing; measure: that its PCRs tell it; require: that it was measured; require-approved: that "
           "its group's approver signed it")
        ->required()
        ->check(CLI::IsMember(launch_policies()));
    set.add_option("--release", options.release, "File of launch release: then it need not be approved any more");
}

void add_signing(const Menu &launch) {
    auto [sign, options] = launch.add<SignLaunchesOptions>(
        "sign", "Approve launches: print them, signed; needs no daemon and no TPM", sign_launches, document_text);
    sign.add_option("--key", options.key, "Private key of the approver (PEM file; - is standard input)")->required();
    sign.add_option("--group", options.group, "Group whose vTPMs may be launched so")->capture_default_str();
    sign.add_option("--generation", options.generation,
                    "Generation of the group; 1 more for those that hold after group revoke-approvals")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    sign.add_option("--uuid", options.vtpms, "Only this vTPM; as often as needed; default: all of the group")
        ->allow_extra_args(false);
    sign.add_option("--label", options.labels, "Name of a launch, once for each; default: that of its file")
        ->allow_extra_args(false);
    sign.add_option("VALUES", options.values, "Files of launch predict; - is standard input")->required();
    auto released = launch.add<ReleaseOptions>(
        "release",
        "Release a vTPM from launches that its approver signs: print that, signed; needs no daemon and no TPM",
        release_launch, document_text);
    released.command.add_option("UUID", released.options.uuid, "UUID of the vTPM")->required();
    released.command
        .add_option("--key", released.options.key, "Private key of the approver (PEM file; - is standard input)")
        ->required();
    released.command.add_option("--binding", released.options.binding, "Binding that show tells")->required();
}

void add_approvals(const Menu &launch) {
    auto installed =
        launch.add<ApprovalFileOptions>("install", "Let vTPMs be powered on for launches that their approver signed",
                                        install_launches, install_launches_text);
    installed.command.add_option("FILE", installed.options.file, "File of launch sign; - is standard input")
        ->required();
    launch.add("approvals", "List the installed launch approvals", list_launches, list_launches_text);
    auto removed = launch.add<ApprovalOptions>("remove", "Remove a launch approval from this host", remove_launches,
                                               remove_launches_text);
    removed.command.add_option("APPROVAL", removed.options.id, "Its id, as launch approvals tells")->required();
}

}  // namespace

void add_launch_commands(const Menu &menu) {
    const Menu launch = menu.below("launch", "Manage measured launches: what a guest's boot puts into its TPM");
    add_predict(launch);
    add_set(launch);
    add_signing(launch);
    add_approvals(launch);
    auto [event_log, options] = menu.add<EventLogOptions>(
        "eventlog", "Show, in a guest, what was measured into its TPM before it ran", show_event_log, event_log_text);
    event_log.add_option("--pcrs", options.pcrs, "Only these PCRs, in this bank")->capture_default_str();
    event_log.add_option("--raw", options.raw, "New file for the log as it is, for tpm2_eventlog");
    event_log.add_option("--device", options.device, "Device of the guest's TPM")->capture_default_str();
}

}  // namespace vtpm::cli
