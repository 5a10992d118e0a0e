// SPDX-License-Identifier: Apache-2.0
// xen-vtpm: the administrator's view of this machine's virtual TPMs.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <functional>

#include "manager/cli/attestation_commands.hpp"
#include "manager/cli/ca_commands.hpp"
#include "manager/cli/commands.hpp"
#include "manager/cli/config_commands.hpp"
#include "manager/cli/exit_status.hpp"
#include "manager/cli/launch_commands.hpp"
#include "manager/cli/policy_commands.hpp"
#include "manager/cli/recovery_commands.hpp"
#include "manager/cli/text.hpp"
#include "version.hpp"

namespace vtpm::cli {
namespace {

// What the command line chose.
const std::vector<std::string> kLaunchPolicies{"off", "measure", "require", "require-approved"};

struct Choice {
    bool json = false;
    std::string uuid;
    std::string group;
    CreateOrder create_order;
    std::string ca_group;
    GroupOrder group_order;
    ReissueOrder reissue_order;
    bool tpm_only = false;
    bool new_store = false;
    bool lost = false;
    bool verify = false;
    PredictOrder predict_order;
    SignOrder sign_order;
    LaunchOrder launch_order;
    SetLaunchOrder set_launch_order;
    SignLaunchesOrder sign_launches_order;
    ReleaseOrder release_order;
    EventLogOrder event_log_order;
    std::string policy;
    std::string file;
    std::string config;
    bool replace = false;
    bool new_ca = false;
    bool request = false;
    CheckOrder check_order;
    RecoverOrder recover_order;
    ImportOrder import_order;
    AttestOrder attest_order;
    VerifyOrder verify_order;
    ChallengeOrder challenge_order;
    std::function<Result<Json>()> ask;
    std::string (*text)(const Json &) = nullptr;
};

CLI::App *add_offline_command(CLI::App &app, Choice &choice, const char *name, const char *help,
                              std::function<Result<Json>()> ask, std::string (*text)(const Json &)) {
    CLI::App *sub = app.add_subcommand(name, help);
    sub->callback([&choice, ask = std::move(ask), text] {
        choice.ask = ask;
        choice.text = text;
    });
    return sub;
}

// The manager does it, whether somebody waits or not.
void tell_that_we_wait(std::chrono::seconds since) {
    std::fprintf(stderr,
                 "xen-vtpm: xen-vtpm-managerd has not done it yet after %lld s: it does one thing after the other with "
                 "the hardware TPM (xen-vtpm status tells whether that answers)\n",
                 static_cast<long long>(since.count()));
}

CLI::App *add_command(CLI::App &app, Choice &choice, const char *name, const char *help,
                      std::function<Result<Json>(Daemons &)> ask, std::string (*text)(const Json &)) {
    const auto reach_and_ask = [&choice, ask = std::move(ask)]() -> Result<Json> {
        VTPM_ASSIGN(Daemons daemons, Daemons::reach(choice.json ? nullptr : tell_that_we_wait));
        return ask(daemons);
    };
    return add_offline_command(app, choice, name, help, reach_and_ask, text);
}

// One of the three: what protects the keys is nobody's default.
void add_sealing_options(CLI::App *command, Choice &choice) {
    auto *sealed_to = command->add_option_group("sealed to");
    sealed_to->add_option("--approver", choice.group_order.approver,
                          "Boots that the owner of this key approves (PEM file of a public key)");
    sealed_to->add_option("--pcrs", choice.group_order.pcrs,
                          "PCRs that must be as they are now, such as sha256:0,2,4,7");
    sealed_to->add_flag("--tpm-only", choice.tpm_only, "This TPM, whatever it booted");
    sealed_to->require_option(1);
}

constexpr const char *kKeyHelp = "A file with what `group export-recovery` printed; default: standard input";

void add_recover_group_command(CLI::App &group, Choice &choice) {
    RecoverOrder &order = choice.recover_order;
    CLI::App *recover = add_command(
        group, choice, "recover", "Open a group by its recovery key, and seal it to this TPM",
        [&](Daemons &d) { return recover_group(d, order); }, show_group_text);
    recover->add_option("NAME", order.group, "The group")->required();
    recover->add_option("--key", order.key, kKeyHelp);
    auto *sealed_to =
        recover->add_option_group("sealed to", "Default: what it was sealed to, which is shown and asked");
    auto *approver = sealed_to->add_option("--approver", order.approver,
                                           "Boots that the owner of this key approves (PEM file of a public key)");
    sealed_to->add_option("--pcrs", order.pcrs, "PCRs that must be as they are now, such as sha256:7");
    sealed_to->add_flag("--tpm-only", order.tpm_only, "This TPM, whatever it booted");
    sealed_to->add_flag("--yes", order.yes, "What it was sealed to, without being asked");
    sealed_to->require_option(0, 1);
    recover->add_option("--generation", order.generation, "Of the approver's policies; default: the present one")
        ->needs(approver)
        ->check(CLI::PositiveNumber);
    recover->add_flag("--new-tpm", order.new_tpm, "Another TPM than this one sealed it, which was replaced or cleared");
    recover->add_flag("--accept-rollback", order.accept_rollback,
                      "Take its vTPMs as the store has them, even if they go back in time");
}

void add_group_recovery_commands(CLI::App &group, Choice &choice) {
    CLI::App *key = add_command(
        group, choice, "export-recovery", "Print a key, once, that opens the group without this TPM",
        [&](Daemons &d) { return export_recovery_key(d, choice.group, choice.replace); }, recovery_key_text);
    key->add_option("NAME", choice.group, "The group")->required();
    key->add_flag("--replace", choice.replace,
                  "Another key; the former still opens older copies and backups, since the group's key stays");
    CLI::App *rekey = add_command(
        group, choice, "rekey", "Give an open group and its vTPMs new keys; its recovery key is void then",
        [&](Daemons &d) { return rekey_group(d, choice.group, choice.new_ca); }, rekey_text);
    rekey->add_option("NAME", choice.group, "The group")->required();
    rekey->add_flag("--new-ca", choice.new_ca,
                    "Another CA as well, of which its vTPMs get certificates by `reissue` only");
    CheckOrder &check_order = choice.check_order;
    CLI::App *check = add_command(
        group, choice, "check-recovery", "Tell whether this is the recovery key of a group; change nothing",
        [&](Daemons &d) { return check_recovery_key(d, check_order); }, check_recovery_text);
    check->add_option("NAME", check_order.group, "The group")->required();
    check->add_option("--key", check_order.key, kKeyHelp);
    add_recover_group_command(group, choice);
}

void add_group_commands(CLI::App &app, Choice &choice) {
    CLI::App &group = *app.add_subcommand("group", "Groups: vTPMs whose keys open together");
    group.require_subcommand(1);
    group.fallthrough();
    add_command(group, choice, "list", "All groups", list_groups, list_groups_text);
    const auto with_name = [&](CLI::App *command) {
        command->add_option("NAME", choice.group, "The group")->required();
        return command;
    };
    with_name(add_command(
        group, choice, "show", "One group", [&](Daemons &d) { return show_group(d, choice.group); }, show_group_text));
    const auto with_order = [&](CLI::App *command) {
        command->add_option("NAME", choice.group_order.name, "The group")->required();
        add_sealing_options(command, choice);
    };
    with_order(add_command(
        group, choice, "create", "Create a group, and seal its key",
        [&](Daemons &d) { return create_group(d, choice.group_order); }, show_group_text));
    with_name(add_command(
        group, choice, "open", "Try again to open a group that is refused",
        [&](Daemons &d) { return open_group(d, choice.group); }, show_group_text));
    with_order(add_command(
        group, choice, "reseal", "Seal an open group's key to something else",
        [&](Daemons &d) { return reseal_group(d, choice.group_order); }, show_group_text));
    with_name(add_command(
        group, choice, "renew", "Make a group's boot policies, and what was sealed under them, worthless for good",
        [&](Daemons &d) { return renew_group(d, choice.group); }, show_group_text));
    with_name(add_command(
                  group, choice, "delete", "Delete a group that has no vTPM",
                  [&](Daemons &d) { return delete_group(d, choice.group, choice.lost); }, delete_group_text))
        ->add_flag("--lost", choice.lost, "A group that is refused for good: with all its vTPMs");
    add_group_recovery_commands(group, choice);
}

void add_backup_commands(CLI::App &app, Choice &choice) {
    add_command(
        app, choice, "backup", "Copy the whole store to a file, while guests go on",
        [&](Daemons &d) { return back_up(d, choice.file); }, back_up_text)
        ->add_option("FILE", choice.file, "A new file")
        ->required();
    CLI::App *backup = add_command(
        app, choice, "export", "Write a vTPM to a file, sealed",
        [&](Daemons &d) { return export_vtpm(d, choice.uuid, choice.file); }, export_text);
    backup->add_option("UUID", choice.uuid, "The vTPM")->required();
    backup->add_option("FILE", choice.file, "A new file; - is standard output")->required();
    ImportOrder &order = choice.import_order;
    CLI::App *import = add_command(
        app, choice, "import", "Put a vTPM back as a file has it", [&](Daemons &d) { return import_vtpm(d, order); },
        show_text);
    import->add_option("FILE", order.file, "What `export` wrote; - is standard input")->required();
    import->add_option("--group", order.group, "Its group from now on; default: the one that it had");
    import->add_option("--recovery-key", order.recovery_key,
                       "A file with the recovery key of the group that it had, which is not here; - asks");
    import->add_flag("--replace", order.replace, "The vTPM that is here goes back to what it was then");
    import->add_flag("--original-is-gone", order.original_is_gone,
                     "It is of another host's store, and will never run there again");
}

void add_ca_commands(CLI::App &app, Choice &choice) {
    CLI::App &ca = *app.add_subcommand("ca", "Who certifies the endorsement keys of a group's vTPMs");
    ca.require_subcommand(1);
    ca.fallthrough();
    choice.ca_group = "default";
    const auto of_group = [&](CLI::App *command) {
        command->add_option("--group", choice.ca_group, "The group")->capture_default_str();
        return command;
    };
    of_group(add_command(
        ca, choice, "show", "The CA of a group", [&](Daemons &d) { return show_ca(d, choice.ca_group); },
        show_ca_text));
    of_group(add_command(
                 ca, choice, "export", "Print its certificate, for those who are to trust it",
                 [&](Daemons &d) { return export_ca(d, choice.ca_group, choice.request); }, export_ca_text))
        ->add_flag("--request", choice.request, "A request instead, for a certificate by another CA");
    of_group(add_command(
                 ca, choice, "import-signed", "Use the certificate that another CA made of the request",
                 [&](Daemons &d) { return import_ca(d, choice.ca_group, choice.file); }, show_ca_text))
        ->add_option("FILE", choice.file, "The certificate (PEM), and those that lead to its root; - is standard input")
        ->required();
}

void add_sign_command(CLI::App &policy, Choice &choice) {
    SignOrder &order = choice.sign_order;
    CLI::App *sign = add_offline_command(
        policy, choice, "sign", "Approve a boot: print a boot policy, signed; needs no daemon and no TPM",
        [&] { return sign_policy(order); }, document_text);
    sign->add_option("--key", order.key, "The approver's private key (PEM); - is standard input")->required();
    sign->add_option("--group", order.group, "The group that may open")->capture_default_str();
    sign->add_option("--generation", order.generation, "That `group show` tells; one more for `group renew`")
        ->capture_default_str();
    auto *values = sign->add_option_group("the boot that is approved");
    values->add_option("--values", order.values, "A file of `policy predict`; - is standard input");
    values->add_flag("--this-host", order.this_host, "That of this machine, as its PCRs are now");
    values->require_option(1);
    sign->add_option("--pcrs", order.pcrs, std::string("Only these PCRs; default: all of the file, or ") + kUsualPcrs);
    sign->add_option("--not-after", order.not_after, "When the approval ends, such as 2027-01-31T23:59:59Z");
}

void add_predict_command(CLI::App &policy, Choice &choice) {
    PredictOrder &order = choice.predict_order;
    CLI::App *predict = add_offline_command(
        policy, choice, "predict", "What this host booted, or will boot: PCRs, and the events behind them",
        [&] { return predict_policy(order); }, predict_policy_text);
    predict->add_option("--pcrs", order.pcrs, std::string("Default: ") + kUsualPcrs);
    auto *next = predict->add_flag("--next", order.next, "The next boot, by what the disk has now");
    predict->add_option("--event-log", order.event_log, "Of the present boot, in a file; default: this host's")
        ->needs(next);
    predict->add_option("--root", order.root, "Where what it will boot is mounted; default: /")->needs(next);
}

void add_policy_commands(CLI::App &app, Choice &choice) {
    CLI::App &policy = *app.add_subcommand("policy", "Boot policies: which boots an approver approves");
    policy.require_subcommand(1);
    policy.fallthrough();
    add_predict_command(policy, choice);
    add_sign_command(policy, choice);
    add_command(
        policy, choice, "install", "Let a signed boot policy open its group on this host",
        [&](Daemons &d) { return install_policy(d, choice.policy); }, install_policy_text)
        ->add_option("FILE", choice.policy, "What `policy sign` printed; - is standard input")
        ->required();
    add_command(policy, choice, "list", "The installed boot policies", list_policies, list_policies_text);
    add_command(
        policy, choice, "revoke", "Remove a boot policy from this host",
        [&](Daemons &d) { return revoke_policy(d, choice.policy); }, revoke_policy_text)
        ->add_option("POLICY", choice.policy, "Its id, as `policy list` tells")
        ->required();
}

void add_launch_approval_commands(CLI::App &launch, Choice &choice) {
    SignLaunchesOrder &order = choice.sign_launches_order;
    CLI::App *sign = add_offline_command(
        launch, choice, "sign", "Approve launches: print them, signed; needs no daemon and no TPM",
        [&] { return sign_launches(order); }, document_text);
    sign->add_option("--key", order.key, "The approver's private key (PEM); - is standard input")->required();
    sign->add_option("--group", order.group, "The group whose vTPMs may be launched so")->capture_default_str();
    sign->add_option("--generation", order.generation, "That `group show` tells; one more for `group renew`")
        ->capture_default_str();
    sign->add_option("--vtpm", order.vtpms, "For this vTPM only; as often as needed; default: all of the group")
        ->allow_extra_args(false);
    sign->add_option("--label", order.labels, "What a launch is called, once for each; default: its file's name")
        ->allow_extra_args(false);
    sign->add_option("VALUES", order.values, "Files of `launch predict`; - is standard input")->required();
    ReleaseOrder &release_order = choice.release_order;
    CLI::App *release = add_offline_command(
        launch, choice, "release", "The approver's word that a vTPM need not be launched as he approves, signed",
        [&] { return release_launch(release_order); }, document_text);
    release->add_option("UUID", release_order.uuid, "The vTPM")->required();
    release->add_option("--key", release_order.key, "The approver's private key (PEM); - is standard input")
        ->required();
    release->add_option("--binding", release_order.binding, "That `show` tells")->required();
    add_command(
        launch, choice, "install", "Let vTPMs be powered on for launches that their approver signed",
        [&](Daemons &d) { return install_launches(d, choice.policy); }, install_launches_text)
        ->add_option("FILE", choice.policy, "What `launch sign` printed; - is standard input")
        ->required();
    add_command(launch, choice, "approvals", "The installed launch approvals", list_launches, list_launches_text);
    add_command(
        launch, choice, "remove", "Remove a launch approval from this host",
        [&](Daemons &d) { return remove_launches(d, choice.policy); }, remove_launches_text)
        ->add_option("APPROVAL", choice.policy, "Its id, as `launch approvals` tells")
        ->required();
}

void add_launch_commands(CLI::App &app, Choice &choice) {
    CLI::App &launch = *app.add_subcommand("launch", "Measured launches: what a guest's boot puts into its TPM");
    launch.require_subcommand(1);
    launch.fallthrough();
    LaunchOrder &order = choice.launch_order;
    CLI::App *predict = add_offline_command(
        launch, choice, "predict", "Predict a guest's PCRs from what it will boot; needs no daemon and no TPM",
        [&] { return predict_launch(order); }, predict_launch_text);
    auto *image = predict->add_option_group("what is booted");
    image->add_option("--kernel", order.kernel, "The kernel, as kernel= of the guest's configuration");
    image->add_option("--uki", order.uki, "A unified kernel image");
    image->require_option(1);
    predict->add_option("--initrd", order.initrd, "The initrd, as ramdisk= of the guest's configuration");
    predict->add_option("--cmdline", order.command_line, "The kernel's command line; default: that of a UKI, or none");
    predict->add_option("--pcrs", order.pcrs, "In which bank, and which of 2 to 9 and 11 to 14")->capture_default_str();
    predict->add_option("--raw", order.raw_values, "A new file for the values, as tpm2_policypcr --pcr reads them");
    predict->add_option("--event-log", order.event_log, "A new file for the event log that the guest will see");

    SetLaunchOrder &set_order = choice.set_launch_order;
    CLI::App *set = add_command(
        launch, choice, "set", "What a vTPM asks of its guest's launch, from its next power-on",
        [&](Daemons &d) { return set_launch(d, set_order); }, show_text);
    set->add_option("UUID", set_order.uuid, "The vTPM")->required();
    set->add_option("POLICY", set_order.launch,
                    "off: nothing; measure: that its PCRs tell it; require: that it was measured; require-approved: "
                    "that its group's approver signed it")
        ->required()
        ->check(CLI::IsMember(kLaunchPolicies));
    set->add_option("--release", set_order.release,
                    "What `launch release` printed: the approver's word that it need not be approved any more");
    add_launch_approval_commands(launch, choice);

    EventLogOrder &log = choice.event_log_order;
    CLI::App *event_log = add_offline_command(
        app, choice, "eventlog", "In a guest: what was measured into its TPM before it ran",
        [&] { return show_event_log(log); }, event_log_text);
    event_log->add_option("--pcrs", log.pcrs, "Only these PCRs, in this bank")->capture_default_str();
    event_log->add_option("--raw", log.raw, "A new file for the log as it is, for tpm2_eventlog");
    event_log->add_option("--device", log.device, "The guest's TPM")->capture_default_str();
}

void add_reissue_command(CLI::App &app, Choice &choice) {
    ReissueOrder &order = choice.reissue_order;
    CLI::App *reissue = add_command(
        app, choice, "reissue", "Issue a vTPM's endorsement certificates again, at its next power-on",
        [&](Daemons &d) { return vtpm::cli::reissue(d, order); }, reissue_text);
    auto *which = reissue->add_option_group("which");
    which->add_option("UUID", order.uuid, "The vTPM");
    which->add_option("--group", order.group, "All of this group that have certificates");
    which->require_option(1);
    reissue->add_flag("--withdraw", order.withdraw, "Take the order back: they keep the certificates that they have");
}

void add_commands(CLI::App &app, Choice &choice) {
    const auto command = [&](const char *name, const char *help, auto ask, std::string (*text)(const Json &)) {
        return add_command(app, choice, name, help, ask, text);
    };
    command("status", "The manager, what it is sealed to, the backend", status, status_text);
    command("list", "All vTPMs", list, list_text);
    command(
        "show", "One vTPM, and the devices that use it", [&](Daemons &d) { return show(d, choice.uuid); }, show_text)
        ->add_option("UUID", choice.uuid, "The vTPM")
        ->required();
    CLI::App *creation = command(
        "create", "Create a vTPM and print its UUID", [&](Daemons &d) { return create(d, choice.create_order); },
        create_text);
    CreateOrder &order = choice.create_order;
    creation->add_option("UUID", order.uuid, "Its UUID; default: a random one");
    creation->add_option("--tpm", order.version, "TPM version; default: default_tpm of manager.toml")
        ->check(CLI::IsMember({"2.0", "1.2"}));
    creation->add_option("--group", order.group, "The group whose key it gets; default: default");
    creation->add_option("--pcr-banks", order.pcr_banks,
                         "Of a TPM 2.0, such as sha256,sha384; default: profile.pcr_banks of manager.toml");
    creation->add_option("--launch", order.launch, "As `launch set`; default: launch of manager.toml")
        ->check(CLI::IsMember(kLaunchPolicies));
    command(
        "destroy", "Destroy a vTPM with its key and its state, for good",
        [&](Daemons &d) { return destroy(d, choice.uuid); }, destroy_text)
        ->add_option("UUID", choice.uuid, "The vTPM")
        ->required();
    add_reissue_command(app, choice);
}

void add_config_commands(CLI::App &app, Choice &choice) {
    CLI::App &config = *app.add_subcommand("config", "The manager's configuration");
    config.require_subcommand(1);
    config.fallthrough();
    choice.config = "/etc/xen-vtpm/manager.toml";
    add_offline_command(
        config, choice, "check", "Tell whether it is right, before a restart; needs no daemon",
        [&] { return check_config(choice.config); }, check_config_text)
        ->add_option("FILE", choice.config, "The file")
        ->capture_default_str();
}

void add_recover_command(CLI::App &app, Choice &choice) {
    CLI::App *recovery = add_command(
        app, choice, "recover", "Use a store that was refused: what is lost by that is lost",
        [&](Daemons &d) { return recover(d, choice.group); }, status_text);
    recovery->add_option("--accept-rollback", choice.group,
                         "Take this group's vTPMs as the store has them, even if they go back in time");
    recovery->add_flag("--new-store", choice.new_store, "Start anew, without the vTPMs of a store that is lost");
    recovery->require_option(1);
}

void add_audit_command(CLI::App &app, Choice &choice) {
    add_command(
        app, choice, "audit", "What was done to groups, vTPMs and policies",
        [&](Daemons &d) { return audit(d, choice.verify); }, audit_text)
        ->add_flag("--verify", choice.verify, "Fail unless every record is there as it was written");
}

void add_attestation_commands(CLI::App &app, Choice &choice) {
    AttestOrder &order = choice.attest_order;
    CLI::App *attestation = add_offline_command(
        app, choice, "attest", "Print an attestation of a vTPM, or, in a guest, of its own",
        [&] { return attest(order); }, document_text);
    attestation->add_option("UUID", order.uuid, "The vTPM; none: this guest's own");
    attestation->add_option("--nonce", order.nonce, "The verifier's, 8 to 64 bytes in hexadecimal")->required();
    attestation->add_option("--pcrs", order.pcrs, "The host's PCRs to quote; default: those that its group opens by");
    attestation->add_option("--device", order.device, "The guest's TPM")->capture_default_str();

    VerifyOrder &trust = choice.verify_order;
    CLI::App *verification = add_offline_command(
        app, choice, "verify-attestation", "Check an attestation, on any machine: needs no daemon and no TPM",
        [&] { return verify_attestation(trust); }, verify_attestation_text);
    verification->add_option("FILE", trust.file, "What `attest` printed; - is standard input")->required();
    verification->add_option("--nonce", trust.nonce, "That you asked with")->required();
    verification->add_option("--host", trust.host, "The host's identity, whose TPM answered your challenge")
        ->required();
    verification->add_option("--vtpm", trust.uuid, "The vTPM that it must be of");
    verification->add_option("--group", trust.group, "The group that the vTPM must be of");
    verification
        ->add_option("--min-generation", trust.min_generation,
                     "Of the group's key, at least: what its approver approved before is void")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    auto *boots = verification->add_option_group("boots of the host that are good");
    boots->add_option("--approver", trust.approver, "That the owner of this key approved (PEM file of a public key)");
    boots->add_option("--values", trust.values, "With these PCRs: a file of `policy predict`");
    boots->add_flag("--any-boot", trust.any_boot, "All: then the host may lie about the vTPM");
    boots->require_option(1, 2);
    verification->add_option("--launch", trust.launch, "What the guest must have booted: a file of `launch predict`");
    verification->add_option("--former-ca", trust.former_cas,
                             "Certificates (PEM) of CAs that certified the vTPM where it was before");
    verification->add_option("--endorsement-key", trust.endorsement_key,
                             "A new file for the vTPM's RSA endorsement key, for tpm2_makecredential");
}

void add_host_commands(CLI::App &app, Choice &choice) {
    CLI::App &host = *app.add_subcommand("host", "Whose TPM a host's attestations come from");
    host.require_subcommand(1);
    host.fallthrough();
    add_command(
        host, choice, "identity", "Print this host's identity, for who is to verify its attestations",
        [&](Daemons &d) { return host_identity(d, choice.file); }, document_text)
        ->add_option("--ek-certificate", choice.file,
                     "The TPM's certificate by its maker, and those that lead on (PEM or DER), where it keeps none");
    ChallengeOrder &order = choice.challenge_order;
    CLI::App *challenge = add_offline_command(
        host, choice, "challenge",
        "Print a question that only the TPM of an identity can answer; needs no daemon, no TPM",
        [&] { return challenge_host(order); }, document_text);
    challenge->add_option("FILE", order.file, "What `host identity` printed; - is standard input")->required();
    auto *makers = challenge->add_option_group("TPMs that are good");
    auto *trusted = makers->add_option("--makers", order.makers, "Those that lead to one of these certificates (PEM)");
    makers->add_flag("--any-tpm", order.any_tpm, "All: you know its endorsement key otherwise");
    makers->require_option(1);
    challenge->add_option("--crl", order.revoked, "A file of the makers' revocation lists (PEM, or one in DER)")
        ->needs(trusted);
    challenge->add_option("--answer", order.answer, "A new file for the answer that must come")->required();
    add_command(
        host, choice, "answer", "Answer a challenge by this host's TPM",
        [&](Daemons &d) { return answer_challenge(d, choice.file); }, answer_text)
        ->add_option("FILE", choice.file, "What `host challenge` printed; - is standard input")
        ->required();
}

int report(const Error &error, bool json) {
    if (json) {
        const Json document{{"error", {{"code", error_word(error.code)}, {"text", error.text}}}};
        std::fprintf(stderr, "%s\n", document.dump(2).c_str());
    } else {
        std::fprintf(stderr, "xen-vtpm: %s%s\n", error.text.c_str(), ::geteuid() == 0 ? "" : " (are you root?)");
    }
    return exit_status(error.code);
}

// A manager that refuses was reached and asked well, and what is verified may be false; scripts want to know.
int success_status(const Json &answer) {
    if (answer.is_object() && !answer.value("verified", true)) return kExitRefused;
    const auto manager = answer.is_object() ? answer.find("manager") : answer.end();
    return manager != answer.end() && manager->value("state", "ready") != "ready" ? kExitRefused : EXIT_SUCCESS;
}

int run(const Choice &choice) {
    const auto answer = choice.ask();
    if (!answer) return report(answer.error(), choice.json);
    std::fputs((choice.json ? answer->dump(2) + "\n" : choice.text(*answer)).c_str(), stdout);
    if (std::fflush(stdout) != 0) return kExitFailure;
    return success_status(*answer);
}

}  // namespace
}  // namespace vtpm::cli

int main(int argc, char **argv) {
    CLI::App app("The virtual TPMs of this Xen machine.", "xen-vtpm");
    vtpm::cli::Choice choice;
    app.add_flag("--json", choice.json, "Print JSON; errors too, on standard error");
    app.set_version_flag("--version", std::string("xen-vtpm ") + vtpm::kVersion);
    app.require_subcommand(1);
    app.fallthrough();  // --json may stand after the subcommand
    app.footer("Exit status: 0 done, 1 failed, 2 usage, 3 unknown vTPM, 4 in use, 5 refused, 6 no daemon.");
    vtpm::cli::add_commands(app, choice);
    vtpm::cli::add_group_commands(app, choice);
    vtpm::cli::add_policy_commands(app, choice);
    vtpm::cli::add_launch_commands(app, choice);
    vtpm::cli::add_ca_commands(app, choice);
    vtpm::cli::add_backup_commands(app, choice);
    vtpm::cli::add_attestation_commands(app, choice);
    vtpm::cli::add_host_commands(app, choice);
    vtpm::cli::add_recover_command(app, choice);
    vtpm::cli::add_audit_command(app, choice);
    vtpm::cli::add_config_commands(app, choice);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError &error) {
        return app.exit(error) == 0 ? EXIT_SUCCESS : vtpm::cli::kExitUsage;
    }
    return vtpm::cli::run(choice);
}
