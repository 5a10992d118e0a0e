// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/policy_commands.hpp"

#include "base/secret.hpp"
#include "manager/boot/boot_policy.hpp"
#include "manager/boot/measured_boot.hpp"
#include "manager/cli/files.hpp"
#include "manager/cli/text.hpp"
#include "manager/crypto/encoding.hpp"

namespace vtpm::cli {
namespace {

struct SignOptions {
    std::string key;
    std::string group = "default";
    std::uint32_t generation = 1;
    std::string pcrs;
    std::string measurements;  // file; empty only with this_host
    bool this_host = false;
    std::string not_after;
};

Result<PcrSelection> selection(const std::string &text) {
    return PcrSelection::parse(text.empty() ? kUsualPcrs : text);
}

// Of a prediction, `wanted` or all.
Result<MeasuredBoot> predicted(const std::string &file, const std::string &wanted) {
    VTPM_ASSIGN(const std::string text, read_input(file));
    VTPM_ASSIGN(MeasuredBoot boot, parse_measured_boot(text));
    if (wanted.empty() && !boot.unknown.empty())
        return fail(ErrorCode::kInvalid,
                    "{} does not know PCR {}, so that an approval would not cover it: say which PCRs it is to cover, "
                    "such as --pcrs {}",
                    file, boot.unknown.begin()->first, boot.pcrs.to_string());
    if (wanted.empty()) return boot;
    VTPM_ASSIGN(const PcrSelection pcrs, PcrSelection::parse(wanted));
    const auto bank = [](const PcrSelection &of) { return of.to_string().substr(0, of.to_string().find(':')); };
    if (bank(pcrs) != bank(boot.pcrs))
        return fail(ErrorCode::kInvalid, "{} has values of {}, not of {}", file, boot.pcrs.to_string(), wanted);
    PcrValues chosen;
    for (const unsigned pcr : pcrs.numbers()) {
        const auto value = boot.values.find(pcr);
        if (value == boot.values.end()) return fail(ErrorCode::kInvalid, "{} has no value of PCR {}", file, pcr);
        chosen.insert(*value);
    }
    return MeasuredBoot{pcrs, std::move(chosen), {}, {}};
}

Result<MeasuredBoot> boot_to_sign(const SignOptions &options) {
    if (!options.this_host) return predicted(options.measurements, options.pcrs);
    VTPM_ASSIGN(const PcrSelection pcrs, selection(options.pcrs));
    return measure_boot(pcrs, BootSources::of_this_host());
}

Result<std::optional<std::int64_t>> expiry(const std::string &text) {
    if (text.empty()) return std::nullopt;
    auto seconds = from_utc(text);
    if (!seconds) return fail(ErrorCode::kInvalid, "'{}' is no time such as 2027-01-31T23:59:59Z", text);
    return seconds;
}

struct MeasureOptions {
    std::string pcrs;
};

Result<Json> measure_policy(const MeasureOptions &options) {
    VTPM_ASSIGN(const PcrSelection selected, selection(options.pcrs));
    VTPM_ASSIGN(const MeasuredBoot boot, measure_boot(selected, BootSources::of_this_host()));
    return Json::parse(to_json(boot));
}

struct PredictOptions {
    std::string pcrs;
    std::string event_log;  // file, of the present boot; empty: this host's, with its PCRs
    std::string root;       // directory of what the next boot finds; empty: this host
};

Result<Json> predict_policy(const PredictOptions &options) {
    VTPM_ASSIGN(const PcrSelection selected, selection(options.pcrs));
    const BootSources sources =
        options.event_log.empty() ? BootSources::of_this_host() : BootSources{"", options.event_log};
    VTPM_ASSIGN(const MeasuredBoot boot, predict_boot(selected, sources, options.root));
    return Json::parse(to_json(boot));
}

Result<Json> sign_policy(const SignOptions &options) {
    VTPM_ASSIGN(const auto not_after, expiry(options.not_after));
    VTPM_ASSIGN(MeasuredBoot boot, boot_to_sign(options));
    VTPM_ASSIGN(const SecretBytes key, read_key(options.key));
    VTPM_ASSIGN(const BootPolicy policy, BootPolicy::sign(key.view(), {options.group, boot.pcrs, std::move(boot.values),
                                                                       not_after, options.generation}));
    return Json::parse(policy.to_json());
}

Result<Json> list_policies(Daemons &daemons) {
    VTPM_ASSIGN(const auto policies, daemons.policies());
    return json_of(policies);
}

struct PolicyOptions {
    std::string id;
};

Result<Json> show_policy(Daemons &daemons, const PolicyOptions &options) {
    VTPM_ASSIGN(const Json policies, list_policies(daemons));
    for (const Json &policy : policies)
        if (policy.value("policy", "") == options.id) return policy;
    return fail(ErrorCode::kNotFound, "there is no boot policy '{}'; see: xen-vtpm policy list", options.id);
}

struct PolicyFileOptions {
    std::string file;
};

Result<Json> install_policy(Daemons &daemons, const PolicyFileOptions &options) {
    VTPM_ASSIGN(const std::string document, read_input(options.file));
    VTPM_ASSIGN(const std::string id, daemons.install_policy(document));
    return show_policy(daemons, {id});
}

Result<Json> remove_policy(Daemons &daemons, const PolicyOptions &options) {
    VTPM_TRY(daemons.revoke_policy(options.id));
    return Json{{"policy", options.id}, {"removed", true}};
}

const std::string &pcrs_help() {
    static const std::string help = std::string("PCRs, such as sha256:7; default: ") + kUsualPcrs;
    return help;
}

void add_measurements(const Menu &policy) {
    auto measured =
        policy.add<MeasureOptions>("measure", "Show what this host booted: its PCRs, and the events behind them",
                                   measure_policy, predict_policy_text);
    measured.command.add_option("--pcrs", measured.options.pcrs, pcrs_help());
    auto [predict, options] =
        policy.add<PredictOptions>("predict", "Predict the PCRs of this host's next boot, by what the disk has now",
                                   predict_policy, predict_policy_text);
    predict.add_option("--pcrs", options.pcrs, pcrs_help());
    predict.add_option("--event-log", options.event_log,
                       "File with the present boot's event log; default: this host's");
    predict.add_option("--root", options.root, "Directory where the next boot's system is mounted; default: /");
}

void add_sign(const Menu &policy) {
    auto [sign, options] = policy.add<SignOptions>(
        "sign", "Approve a boot: print a boot policy, signed; needs no daemon and no TPM", sign_policy, document_text);
    sign.add_option("--key", options.key, "Approver's private key (PEM); - is standard input")->required();
    sign.add_option("--group", options.group, "Group that may open")->capture_default_str();
    sign.add_option("--generation", options.generation,
                    "Generation that group show tells; one more for group revoke-approvals")
        ->capture_default_str();
    auto *boot = sign.add_option_group("the boot that is approved");
    boot->add_option("--measurements", options.measurements, "File of policy measure or predict; - is standard input");
    boot->add_flag("--this-host", options.this_host, "Present PCRs of this machine");
    boot->require_option(1);
    sign.add_option("--pcrs", options.pcrs, std::string("Only these PCRs; default: all of the file, or ") + kUsualPcrs);
    sign.add_option("--not-after", options.not_after, "End of the approval, such as 2027-01-31T23:59:59Z");
}

}  // namespace

void add_policy_commands(const Menu &menu) {
    const Menu policy = menu.below("policy", "Manage boot policies: which boots an approver approves");
    add_measurements(policy);
    add_sign(policy);
    auto install = policy.add<PolicyFileOptions>("install", "Let a signed boot policy open its group on this host",
                                                 install_policy, install_policy_text);
    install.command.add_option("FILE", install.options.file, "File that policy sign printed; - is standard input")
        ->required();
    policy.add("list", "List the installed boot policies", list_policies, list_policies_text);
    auto show = policy.add<PolicyOptions>("show", "Show an installed boot policy", show_policy, install_policy_text);
    show.command.add_option("POLICY", show.options.id, "Id of the policy, as policy list tells")->required();
    auto remove = policy.add<PolicyOptions>("remove", "Remove a boot policy from this host; copies of it still count",
                                            remove_policy, remove_policy_text);
    remove.command.add_option("POLICY", remove.options.id, "Id of the policy, as policy list tells")->required();
}

}  // namespace vtpm::cli
