// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/group_recovery_commands.hpp"

#include "manager/cli/files.hpp"
#include "manager/cli/text.hpp"

namespace vtpm::cli {
namespace {

constexpr const char *kKeyHelp = "File with what group recovery-key printed; default: standard input";

// What the group is sealed to from now on: `pcrs`, `approver` (a file) or `tpm_only`. None of them: what it was sealed
// to, which is shown and asked for; `yes` is the answer. A generation of 0 is the present one.
struct RecoverOptions {
    std::string group;
    std::string key = "-";
    std::string pcrs;
    std::string approver;
    std::uint32_t generation = 0;
    bool tpm_only = false;
    bool yes = false;
    bool accept_rollback = false;
    bool new_tpm = false;
};

bool is_chosen(const RecoverOptions &options) {
    return options.tpm_only || !options.pcrs.empty() || !options.approver.empty();
}

constexpr const char *kChoices = "--pcrs, --approver or --tpm-only";

// What the group was sealed to, if somebody who saw it says that it be so again.
Result<> confirm_seal(const Json &check, const RecoverOptions &options, Daemons::Recovery &recovery) {
    std::fputs(recovery_plan_text(check).c_str(), stderr);
    const bool sure =
        check.value("policy_known", false) && check.value("remembered", false) && check.value("difference", "").empty();
    if (!sure)
        return fail(ErrorCode::kRefused, "what group '{}' is to be sealed to is yours to say, by {}", options.group,
                    kChoices);
    if (!options.yes && !says_yes("Seal it so?"))
        return fail(ErrorCode::kRefused, "nothing was changed. To seal group '{}' so: --yes; to something else: {}",
                    options.group, kChoices);
    recovery.pcrs = check.value("pcrs", "");
    recovery.approver = check.value("approver_key", "");
    recovery.generation = check.value("generation", 0U);
    return {};
}

Result<Daemons::Recovery> recovery_of(Daemons &daemons, const RecoverOptions &options, const std::string &key) {
    Daemons::Recovery recovery{options.group,           options.pcrs,   {}, options.generation,
                               options.accept_rollback, options.new_tpm};
    if (!options.approver.empty()) {
        VTPM_ASSIGN(recovery.approver, read_input(options.approver));
    }
    VTPM_ASSIGN(const auto answer, daemons.check_recovery(options.group, key));
    const Json check = json_of(answer);
    if (check.value("open", false))
        return fail(ErrorCode::kWrongState, "group '{}' is open already: nothing is to be recovered", options.group);
    // Before anything is asked.
    if (const std::string new_tpm = check.value("new_tpm", ""); !new_tpm.empty() && !options.new_tpm)
        return fail(ErrorCode::kRefused, "{}", new_tpm);
    if (!is_chosen(options)) {
        VTPM_TRY(confirm_seal(check, options, recovery));
    } else if (const std::string difference = check.value("difference", ""); !difference.empty()) {
        std::fprintf(stderr, "xen-vtpm: %s\n", difference.c_str());
    }
    return recovery;
}

struct RecoveryKeyOptions {
    std::string group;
    bool rotate = false;
};

Result<Json> make_recovery_key(Daemons &daemons, const RecoveryKeyOptions &options) {
    VTPM_ASSIGN(const std::string key, daemons.export_recovery_key(options.group, options.rotate));
    return Json{{"group", options.group}, {"recovery_key", key}};
}

// `key`: a file with the recovery key; "-" is standard input.
struct CheckRecoveryOptions {
    std::string group;
    std::string key = "-";
};

Result<Json> check_recovery_key(Daemons &daemons, const CheckRecoveryOptions &options) {
    SecretText key;
    VTPM_ASSIGN(key.text, read_secret(options.key, "Recovery key"));
    VTPM_ASSIGN(const auto answer, daemons.check_recovery(options.group, key.text));
    Json check = json_of(answer);
    check.erase("approver_key");
    return check;
}

Result<Json> recover_group(Daemons &daemons, const RecoverOptions &options) {
    SecretText key;
    VTPM_ASSIGN(key.text, read_secret(options.key, "Recovery key"));
    VTPM_ASSIGN(const Daemons::Recovery recovery, recovery_of(daemons, options, key.text));
    VTPM_TRY(daemons.recover_group(recovery, key.text));
    return show_group(daemons, options.group);
}

struct RollbackOptions {
    std::string group;
};

Result<Json> accept_rollback(Daemons &daemons, const RollbackOptions &options) {
    VTPM_TRY(daemons.accept_rollback(options.group));
    return show_status(daemons);
}

template <typename Added>
void add_group_name(Added &added) {
    added.command.add_option("NAME", added.options.group, "Name of the group")->required();
}

void add_recover(const Menu &group) {
    auto added = group.add<RecoverOptions>(
        "recover", "Open a locked group by its recovery key, and seal it to this TPM", recover_group, show_group_text);
    add_group_name(added);
    auto &[command, options] = added;
    command.add_option("--recovery-key", options.key, kKeyHelp);
    auto *sealed_to = command.add_option_group("sealed to", "Default: what it was sealed to, which is shown and asked");
    auto *approver = sealed_to->add_option("--approver", options.approver,
                                           "Boots that the owner of this key approves (PEM file of a public key)");
    sealed_to->add_option("--pcrs", options.pcrs, "Present values of these PCRs, such as sha256:7");
    sealed_to->add_flag("--tpm-only", options.tpm_only, "This TPM, whatever it booted");
    sealed_to->add_flag("--yes", options.yes, "What it was sealed to, without being asked");
    sealed_to->require_option(0, 1);
    command
        .add_option("--generation", options.generation,
                    "Generation of the approver's policies; default: the present one")
        ->needs(approver)
        ->check(CLI::PositiveNumber);
    command.add_flag("--new-tpm", options.new_tpm, "Accept that another TPM sealed it, which was replaced or cleared");
    command.add_flag("--accept-rollback", options.accept_rollback,
                     "Accept its vTPMs as the store has them, even if that is an older state");
}

}  // namespace

void add_group_recovery_commands(const Menu &group) {
    auto key = group.add<RecoveryKeyOptions>("recovery-key", "Print a key, once, that opens the group without this TPM",
                                             make_recovery_key, recovery_key_text);
    add_group_name(key);
    key.command.add_flag(
        "--rotate", key.options.rotate,
        "Make another key; the former still opens older copies and backups, since the group's key stays");
    auto check = group.add<CheckRecoveryOptions>("check-recovery",
                                                 "Check whether this is the recovery key of a group; change nothing",
                                                 check_recovery_key, check_recovery_text);
    add_group_name(check);
    check.command.add_option("--recovery-key", check.options.key, kKeyHelp);
    add_recover(group);
    auto rollback = group.add<RollbackOptions>(
        "accept-rollback", "Open a group with its vTPMs as the store has them, even if that is an older state",
        accept_rollback, status_text);
    add_group_name(rollback);
}

}  // namespace vtpm::cli
