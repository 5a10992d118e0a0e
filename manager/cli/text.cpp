// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/text.hpp"

#include <fmt/format.h>

#include "version.hpp"

namespace vtpm::cli {
namespace {

// Absent keys are empty: an older daemon may say less.
std::string text(const Json &object, const char *key) {
    const auto found = object.find(key);
    if (found == object.end()) return {};
    return found->is_string() ? found->get<std::string>() : found->dump();
}

bool flag(const Json &object, const char *key) { return object.value(key, false); }

void line(std::string &out, std::string_view label, std::string_view value) {
    if (!value.empty()) out += fmt::format("{:<14}{}\n", label, value);
}

std::string device_line(const Json &device) {
    std::string out = fmt::format("{:<7} {:<12}", text(device, "device"), text(device, "state"));
    if (device.value("engine_pid", 0) != 0) out += fmt::format(" engine {}", text(device, "engine_pid"));
    if (const auto version = text(device, "engine_version"); !version.empty() && version != kVersion)
        out += fmt::format(" (version {}, until the guest is power cycled)", version);
    if (const auto reason = text(device, "reason"); !reason.empty()) out += ": " + reason;
    return out;
}

// What it takes to open a group's key.
std::string policy(const Json &group) {
    if (text(group, "sealing") == "file") return "NONE: who has the disk has the keys";
    if (const std::string approver = text(group, "approver"); !approver.empty())
        return fmt::format("this TPM, boots that {} approves", approver);
    const std::string pcrs = text(group, "pcrs");
    return pcrs.empty() ? "this TPM only" : fmt::format("this TPM, PCRs {} as they were", pcrs);
}

// The same for a key that is about to be sealed.
std::string policy_at_once(const Json &check) {
    if (text(check, "sealing") == "file") return policy(check);
    if (const std::string approver = text(check, "approver"); !approver.empty())
        return fmt::format("this TPM, boots that {} approves for generation {}", approver, text(check, "generation"));
    const std::string pcrs = text(check, "pcrs");
    return pcrs.empty() ? "this TPM only, whatever it booted" : fmt::format("this TPM, PCRs {} as they are now", pcrs);
}

// What the approver has to know of; empty without one.
std::string boot_policies(const Json &group) {
    if (text(group, "approver").empty()) return {};
    const std::string generation = fmt::format("of generation {}", text(group, "generation"));
    if (text(group, "policies") == "0")
        return fmt::format("NONE {}: at the manager's next start the group is refused (xen-vtpm policy)", generation);
    const std::string next = text(group, "next_policies");
    return fmt::format(
        "{} {}{}", text(group, "policies"), generation,
        next.empty() || next == "0" ? "" : fmt::format(", {} of the next (xen-vtpm group revoke-approvals)", next));
}

// An older manager does not say.
bool has_recovery_key(const Json &group) { return group.value("recovery_key", true); }

bool waits(const Json &group) { return text(group, "state") == "waiting"; }

std::string group_line(const Json &group) {
    const std::string reason = text(group, "reason");
    const char *state = waits(group) ? "; waiting: " : "; REFUSED: ";
    return fmt::format("{}: {} vTPMs; sealed to {}{}{}{}", text(group, "group"), text(group, "vtpms"), policy(group),
                       has_recovery_key(group) ? "" : "; NO RECOVERY KEY", reason.empty() ? "" : state, reason);
}

// Without a recovery key: what takes the group's vTPMs along, and what is to be done. Empty: it has one.
std::string loss(const Json &group) {
    if (has_recovery_key(group)) return {};
    const std::string name = text(group, "group");
    const char *when = "another mainboard";
    if (text(group, "sealing") == "file")
        when = "the loss of the key file";
    else if (!text(group, "approver").empty())
        when = "another mainboard, or the loss of its approver's key,";
    else if (!text(group, "pcrs").empty())
        when = "another mainboard, or an update that changes its PCRs,";
    return fmt::format("none of {}: {} loses its vTPMs for good: xen-vtpm group recovery-key {}", name, when, name);
}

// An older backend does not say for how many there is room.
std::string backend_line(const Json &backend) {
    if (!flag(backend, "running")) return "not running";
    const std::string room = text(backend, "room");
    return fmt::format("running, {} devices{}", backend.at("devices").size(),
                       room.empty() ? "" : fmt::format(", room for {} more TPMs", room));
}

std::string used_by(const Json &vtpm) {
    std::string devices;
    for (const Json &device : vtpm.value("devices", Json::array()))
        devices += (devices.empty() ? "" : " ") + text(device, "device");
    if (!devices.empty()) return devices;
    return flag(vtpm, "in_use") ? "yes" : "-";
}

}  // namespace

std::string status_text(const Json &status) {
    const Json &manager = status.at("manager");
    const Json &backend = status.at("backend");
    std::string out;
    line(out, "manager", fmt::format("{}, version {}", text(manager, "state"), text(manager, "version")));
    line(out, "refusing", text(manager, "reason"));
    line(out, "hardware TPM", text(manager, "sealer_trouble"));
    line(out, "CLOCK", text(manager, "clock_trouble"));
    line(out, "sealed to", text(manager, "sealed_to"));
    line(out, "LOST GROUP", text(manager, "lost_group"));
    line(out, "store", text(manager, "store"));
    line(out, "vTPMs", fmt::format("{}, {} in use", text(manager, "vtpms"), text(manager, "vtpms_in_use")));
    const Json groups = status.value("groups", Json::array());
    for (const Json &group : groups) line(out, "  group", group_line(group));
    for (const Json &group : groups) line(out, "recovery key", loss(group));
    const Json &devices = backend.at("devices");
    line(out, "backend", backend_line(backend));
    for (const Json &device : devices)
        line(out, "  device", fmt::format("{}  vTPM {}", device_line(device), text(device, "uuid")));
    return out;
}

std::string list_text(const Json &vtpms) {
    if (vtpms.empty()) return "no vTPMs\n";
    constexpr auto kRow = "{:<36}  {:<3}  {:<10}  {:<20}  {:>8}  {:<8}  {}\n";
    std::string out = fmt::format(kRow, "UUID", "TPM", "GROUP", "CREATED", "STORES", "USED BY", "REFUSED");
    for (const Json &vtpm : vtpms)
        out += fmt::format(kRow, text(vtpm, "uuid"), text(vtpm, "tpm"), text(vtpm, "group"), text(vtpm, "created"),
                           text(vtpm, "sequence"), used_by(vtpm), text(vtpm, "reason"));
    return out;
}

namespace {

std::string launch(const Json &vtpm) {
    const std::string approver = text(vtpm, "launch_approver");
    if (approver.empty()) return text(vtpm, "launch");
    return fmt::format("{}, by {}, binding {}", text(vtpm, "launch"), approver, text(vtpm, "launch_binding"));
}

}  // namespace

std::string show_text(const Json &vtpm) {
    std::string out;
    line(out, "vTPM", text(vtpm, "uuid"));
    line(out, "TPM", text(vtpm, "tpm"));
    line(out, "PCR banks", text(vtpm, "pcr_banks"));
    line(out, "algorithms", text(vtpm, "algorithms"));
    line(out, "group", text(vtpm, "group"));
    line(out, "launch", launch(vtpm));
    line(out, "created", text(vtpm, "created"));
    line(out, "stores", text(vtpm, "sequence"));
    line(out, "in use", flag(vtpm, "in_use") ? "yes" : "no");
    line(out, "saved", flag(vtpm, "saved") ? "yes: its guest may be restored, once, until it is started anew" : "no");
    if (flag(vtpm, "reissue")) line(out, "certificates", "to be issued again at its next power-on");
    line(out, "refused", text(vtpm, "reason"));
    for (const Json &device : vtpm.value("devices", Json::array())) line(out, "device", device_line(device));
    return out;
}

std::string reissue_text(const Json &ordered) {
    if (!ordered.contains("changed")) return show_text(ordered);
    const std::string what = flag(ordered, "withdrawn")
                                 ? "keep the certificates that they have"
                                 : "get their certificates issued again, each at its next power-on";
    return fmt::format("{} vTPMs of group '{}' {}\n", text(ordered, "changed"), text(ordered, "group"), what);
}

std::string create_text(const Json &created) { return text(created, "uuid") + "\n"; }

std::string delete_text(const Json &deleted) { return fmt::format("{} deleted\n", text(deleted, "uuid")); }

std::string list_groups_text(const Json &groups) {
    constexpr auto kRow = "{:<20}  {:>5}  {:<20}  {:<34}  {}\n";
    std::string out = fmt::format(kRow, "GROUP", "VTPMS", "CREATED", "SEALED TO", "NOT OPEN");
    for (const Json &group : groups) {
        const std::string reason = text(group, "reason");
        const char *state = waits(group) ? "waiting: " : "refused: ";
        out += fmt::format(kRow, text(group, "group"), text(group, "vtpms"), text(group, "created"), policy(group),
                           reason.empty() ? reason : state + reason);
    }
    return out;
}

std::string show_group_text(const Json &group) {
    std::string out;
    line(out, "group", text(group, "group"));
    // Which nobody vouches for while the group is refused.
    line(out, "sealed to", policy(group) + (text(group, "reason").empty() ? "" : ", says the store"));
    line(out, "boot policies", boot_policies(group));
    line(out, "recovery key", group.value("recovery_key", false) ? "yes" : "none: xen-vtpm group recovery-key");
    line(out, "vTPMs", text(group, "vtpms"));
    line(out, "created", text(group, "created"));
    line(out, waits(group) ? "waiting" : "refused", text(group, "reason"));
    return out;
}

std::string delete_group_text(const Json &deleted) { return fmt::format("{} deleted\n", text(deleted, "group")); }

std::string rekey_text(const Json &group) {
    return show_group_text(group) +
           fmt::format(
               "Group '{0}' and its vTPMs have new keys. The former recovery key is void: make another now, with\n"
               "xen-vtpm group recovery-key {0}\n"
               "Copies of the store, and vTPMs that were exported before, open by the former keys still: destroy "
               "them.\n",
               text(group, "group"));
}

// What reads it again skips what is behind a '#'.
std::string recovery_key_text(const Json &exported) {
    return fmt::format(
        "{0}\n"
        "# The recovery key of group '{1}': it opens the group on any machine that has its store or a vTPM's backup.\n"
        "# It is kept nowhere and will not be told again: write it down, and keep it away from this host.\n"
        "# Whether what you wrote is right: xen-vtpm group check-recovery {1}\n",
        text(exported, "recovery_key"), text(exported, "group"));
}

std::string recovery_plan_text(const Json &check) {
    std::string out;
    line(out, "group", text(check, "group"));
    line(out, "to seal to", flag(check, "policy_known") ? policy_at_once(check) : "what you say");
    line(out, "by", text(check, "sealer"));
    line(out, "WARNING", text(check, "difference"));
    if (!flag(check, "remembered"))
        line(out, "WARNING",
             "nobody vouches for that: only the store says so, which anyone who had the disk can write");
    if (!text(check, "new_tpm").empty())
        line(out, "WARNING",
             "another TPM sealed the group: nobody can tell whether the store is the last one, and says "
             "what the group was last sealed to");
    return out;
}

std::string check_recovery_text(const Json &check) {
    const std::string group = text(check, "group");
    std::string out = fmt::format("This is the recovery key of group '{}'.\n", group);
    if (flag(check, "open")) return out;
    out += fmt::format("The group is refused. With this key, xen-vtpm group recover {} would open it:\n", group);
    return out + recovery_plan_text(check);
}

std::string export_warning(const Json &exported) {
    const std::string group = text(exported, "group");
    if (flag(exported, "recovery_key"))
        return fmt::format("It opens in this store, and with the recovery key of group '{}' anywhere.\n", group);
    return fmt::format(
        "It opens in this store only, while group '{0}' does: THE GROUP HAS NO RECOVERY KEY, so the file is worth\n"
        "nothing once the store or the hardware TPM is lost. Make one (xen-vtpm group recovery-key {0}), and "
        "export\n"
        "the vTPM again.\n",
        group);
}

std::string back_up_text(const Json &copied) {
    return fmt::format("{} is a copy of {}\n", text(copied, "file"), text(copied, "store"));
}

std::string export_text(const Json &exported) {
    if (text(exported, "file") == "-") return text(exported, "backup");
    return fmt::format("{} is in {}\n{}", text(exported, "uuid"), text(exported, "file"), export_warning(exported));
}

std::string show_ca_text(const Json &ca) {
    std::string out;
    line(out, "group", text(ca, "group"));
    line(out, "CA", text(ca, "subject"));
    line(out, "signed by", ca.value("self_signed", true) ? "itself" : text(ca, "issuer"));
    line(out, "SHA-256", text(ca, "fingerprint"));
    return out;
}

std::string export_ca_text(const Json &exported) { return text(exported, "pem"); }

// parse_measured_boot() reads it again: words are indented, or behind a '#'.
std::string predict_policy_text(const Json &boot) {
    std::string out = fmt::format("PCRs {}\n", text(boot, "pcrs"));
    for (const auto &[pcr, value] : boot.at("values").items()) {
        out += fmt::format("PCR {:<2}  {}\n", pcr, value.get<std::string>());
        if (const std::string covers = text(boot.value("covers", Json::object()), pcr.c_str()); !covers.empty())
            out += fmt::format("        ({})\n", covers);
        for (const Json &event : boot.at("events"))
            if (text(event, "pcr") == pcr)
                out += fmt::format("        {} {:.16}... {}\n", text(event, "type"), text(event, "digest"),
                                   text(event, "text"));
    }
    const Json unknown = boot.value("unknown", Json::object());
    for (const auto &[pcr, why] : unknown.items())
        out += fmt::format("PCR {:<2}  unknown\n        ({})\n", pcr, why.get<std::string>());
    for (const Json &warning : boot.value("warnings", Json::array()))
        out += fmt::format("# WARNING: {}\n", warning.get<std::string>());
    if (boot.at("events").empty()) return out + "# The kernel has no event log that would explain these values.\n";
    for (const Json &pcr : boot.at("unexplained"))
        out += fmt::format("# PCR {} is not what these events make it: something else was measured too.\n", pcr.dump());
    return out;
}

// What reads the first can also read this.
std::string predict_launch_text(const Json &boot) {
    return fmt::format("{}# For systemd-cryptenroll: --tpm2-pcrs={}\n", predict_policy_text(boot),
                       text(boot, "tpm2_pcrs"));
}

std::string event_log_text(const Json &log) { return log.at("events").empty() ? "" : predict_policy_text(log); }

std::string document_text(const Json &document) { return document.dump(4) + "\n"; }

std::string verify_attestation_text(const Json &verdict) {
    std::string out;
    for (const Json &check : verdict.at("checks"))
        out += fmt::format("{:<7} {:<17} {}\n", flag(check, "holds") ? "ok" : "FAILED", text(check, "check"),
                           text(check, "text"));
    if (const Json quote = verdict.value("quote", Json()); quote.is_object())
        out += fmt::format("        {:<17} Clock {} ms{}, {} resets, {} restarts, firmware {}\n", "host TPM",
                           text(quote, "clock"), flag(quote, "clock_safe") ? "" : " (unsafe)",
                           text(quote, "reset_count"), text(quote, "restart_count"), text(quote, "firmware_version"));
    return out + (flag(verdict, "verified") ? "Result: verified\n" : "Result: NOT verified\n");
}

std::string answer_text(const Json &answer) { return text(answer, "answer") + "\n"; }

std::string install_policy_text(const Json &policy) {
    std::string out;
    line(out, "boot policy", text(policy, "policy"));
    line(out, "group", text(policy, "group"));
    line(out, "PCRs", text(policy, "pcrs"));
    line(out, "not after", text(policy, "not_after"));
    line(out, "opens nothing", text(policy, "reason"));
    return out;
}

std::string list_policies_text(const Json &policies) {
    if (policies.empty()) return "no boot policies\n";
    constexpr auto kRow = "{:<16}  {:<20}  {:<20}  {:<20}  {:<20}  {}\n";
    std::string out = fmt::format(kRow, "POLICY", "GROUP", "PCRS", "INSTALLED", "NOT AFTER", "OPENS NOTHING");
    for (const Json &policy : policies)
        out += fmt::format(kRow, text(policy, "policy"), text(policy, "group"), text(policy, "pcrs"),
                           text(policy, "installed"), text(policy, "not_after"), text(policy, "reason"));
    return out;
}

std::string install_launches_text(const Json &approval) {
    std::string out;
    line(out, "approval", text(approval, "approval"));
    line(out, "group", text(approval, "group"));
    line(out, "launches", text(approval, "launches"));
    line(out, "vTPMs", text(approval, "vtpms").empty() ? "all of the group" : text(approval, "vtpms"));
    line(out, "counts not", text(approval, "reason"));
    return out;
}

std::string list_launches_text(const Json &approvals) {
    if (approvals.empty()) return "no launch approvals\n";
    constexpr auto kRow = "{:<16}  {:<20}  {:<20}  {:<36}  {}{}\n";
    std::string out = fmt::format(kRow, "APPROVAL", "GROUP", "INSTALLED", "VTPMS", "LAUNCHES", "");
    for (const Json &approval : approvals) {
        const std::string reason = text(approval, "reason");
        const std::string vtpms = text(approval, "vtpms");
        out += fmt::format(kRow, text(approval, "approval"), text(approval, "group"), text(approval, "installed"),
                           vtpms.empty() ? "all" : vtpms, text(approval, "launches"),
                           reason.empty() ? "" : fmt::format(" (counts not: {})", reason));
    }
    return out;
}

std::string remove_launches_text(const Json &removed) { return fmt::format("{} removed\n", text(removed, "approval")); }

std::string audit_text(const Json &records) {
    std::string out;
    for (const Json &record : records)
        out += fmt::format("{:>6}  {}  {:<18} {} {}\n", text(record, "number"), text(record, "time"),
                           text(record, "event"), text(record, "subject"), text(record, "detail"));
    return out;
}

std::string remove_policy_text(const Json &removed) { return fmt::format("{} removed\n", text(removed, "policy")); }

}  // namespace vtpm::cli
