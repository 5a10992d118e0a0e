// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <vector>

#include "manager/cli/problems.hpp"
#include "version.hpp"

namespace vtpm::cli {

std::string text(const Json &object, const char *key) {
    const auto found = object.find(key);
    if (found == object.end()) return {};
    return found->is_string() ? found->get<std::string>() : found->dump();
}

namespace {

bool flag(const Json &object, const char *key) { return object.value(key, false); }

void line(std::string &out, std::string_view label, std::string_view value) {
    if (!value.empty()) out += fmt::format("{:<14}{}\n", label, value);
}

std::string device_state(const Json &device) {
    std::string out = fmt::format("{:<7} {:<12}", text(device, "device"), text(device, "state"));
    if (device.value("engine_pid", 0) != 0) out += fmt::format(" engine {}", text(device, "engine_pid"));
    if (const auto version = text(device, "engine_version"); !version.empty() && version != kVersion)
        out += fmt::format(" (version {}, until the guest is rebooted: xl reboot)", version);
    return out;
}

std::string device_line(const Json &device) {
    const std::string reason = text(device, "reason");
    return device_state(device) + (reason.empty() ? "" : ": " + reason);
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
        return fmt::format("NONE {}: at the manager's next start the group is locked (xen-vtpm policy)", generation);
    const std::string next = text(group, "next_policies");
    return fmt::format(
        "{} {}{}", text(group, "policies"), generation,
        next.empty() || next == "0" ? "" : fmt::format(", {} of the next (xen-vtpm group revoke-approvals)", next));
}

bool waits(const Json &group) { return text(group, "state") == "waiting"; }

// The daemons' words for what people call locked.
std::string state(const Json &object) {
    const std::string word = text(object, "state");
    return word == "refused" || word == "refusing" ? "locked" : word;
}

// Empty: there are none, or the manager is older and does not say.
std::string launch_approvals(const Json &group) {
    const auto count = group.value("launch_approvals", 0U);
    return count == 0 ? std::string() : fmt::format("{} launch approvals", count);
}

std::string group_line(const Json &group) {
    const std::string launches = launch_approvals(group);
    return fmt::format("{}: {}, {} vTPMs; sealed to {}{}{}", text(group, "group"), state(group), text(group, "vtpms"),
                       policy(group), launches.empty() ? "" : "; ", launches);
}

// So that the status stays on a screen.
constexpr std::size_t kRows = 8;

void add_first(std::string &out, std::string_view label, const Json &rows, std::string (*row_line)(const Json &),
               std::string_view all) {
    for (std::size_t i = 0; i < std::min(rows.size(), kRows); ++i) line(out, label, row_line(rows.at(i)));
    if (rows.size() > kRows) line(out, label, fmt::format("{} more: {}", rows.size() - kRows, all));
}

std::string problem_lines(const Json &problems) {
    if (problems.empty()) return "no problems\n";
    std::string out = "\nproblems, and what to do:\n";
    for (std::size_t i = 0; i < std::min(problems.size(), kRows); ++i)
        out += fmt::format("{} {}\n      {}\n", flag(problems.at(i), "degraded") ? "  !" : "  -",
                           text(problems.at(i), "problem"), text(problems.at(i), "remedy"));
    if (problems.size() > kRows) out += fmt::format("  {} more: xen-vtpm --json status\n", problems.size() - kRows);
    return out;
}

// An older backend does not say for how many there is room.
std::string backend_line(const Json &backend) {
    if (!flag(backend, "running")) return "not running";
    const std::string room = text(backend, "room");
    return fmt::format("running, {} devices{}", backend.at("devices").size(),
                       room.empty() ? "" : fmt::format(", room for {} more TPMs", room));
}

// Why it is not connected stands among the problems.
std::string device_in_status(const Json &device) {
    return fmt::format("{}  vTPM {}", device_state(device), text(device, "uuid"));
}

// Those that use it: "7".
std::string domains(const Json &vtpm) {
    std::string numbers;
    for (const Json &device : vtpm.value("devices", Json::array())) {
        const std::string id = text(device, "device");
        numbers += (numbers.empty() ? "" : ",") + id.substr(0, id.find('/'));
    }
    return numbers;
}

}  // namespace

std::string status_text(const Json &status) {
    const Json &manager = status.at("manager");
    const Json &backend = status.at("backend");
    std::string out;
    const std::string version = text(manager, "version");
    line(out, "manager", version.empty() ? state(manager) : fmt::format("{}, version {}", state(manager), version));
    line(out, "sealed to", text(manager, "sealed_to"));
    line(out, "store", text(manager, "store"));
    if (manager.contains("vtpms"))
        line(out, "vTPMs", fmt::format("{}, {} in use", text(manager, "vtpms"), text(manager, "vtpms_in_use")));
    add_first(out, "  group", status.value("groups", Json::array()), group_line, "xen-vtpm group list");
    line(out, "backend", backend_line(backend));
    add_first(out, "  device", backend.at("devices"), device_in_status, "xen-vtpm list");
    return out + problem_lines(status.value("problems", Json::array()));
}

std::string vtpm_name(const Json &vtpm) {
    const std::string alias = text(vtpm, "alias");
    return alias.empty() ? text(vtpm, "guest") : alias;
}

namespace {

// One word.
std::string vtpm_state(const Json &vtpm) {
    if (!text(vtpm, "reason").empty()) return "locked";
    if (flag(vtpm, "in_use")) return "running";
    if (!vtpm.value("devices", Json::array()).empty()) return "attached";
    if (flag(vtpm, "saved")) return "saved";
    return text(vtpm, "sequence") == "0" ? "new" : "off";
}

std::string last_used(const Json &vtpm) {
    if (flag(vtpm, "in_use")) return "now";
    std::string time = text(vtpm, "last_used");
    if (!time.empty()) return time;
    return text(vtpm, "sequence") == "0" ? "never" : "";  // before that was noted
}

struct Column {
    std::string_view name;
    int width;
    std::string (*value)(const Json &vtpm);
};
constexpr std::array<Column, 7> kColumns{{
    {"NAME", 16, vtpm_name},
    {"UUID", 36, [](const Json &vtpm) { return text(vtpm, "uuid"); }},
    {"TPM", 3, [](const Json &vtpm) { return text(vtpm, "tpm"); }},
    {"GROUP", 10, [](const Json &vtpm) { return text(vtpm, "group"); }},
    {"DOMAIN", 6, domains},
    {"STATE", 8, vtpm_state},
    {"LAST-USED", 20, last_used},
}};

bool is_called(const Column &column, std::string_view word) {
    return std::ranges::equal(column.name, word, {}, {},
                              [](char c) { return c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c; });
}

const Column *column_called(std::string_view word) {
    const auto *const found =
        std::ranges::find_if(kColumns, [&](const Column &column) { return is_called(column, word); });
    return found == kColumns.end() ? nullptr : &*found;
}

std::vector<Column> columns_of(const ListLayout &layout) {
    if (layout.columns.empty()) return {kColumns.begin(), kColumns.end()};
    std::vector<Column> columns;
    for (const std::string &word : layout.columns)
        if (const Column *column = column_called(word)) columns.push_back(*column);
    return columns;
}

// As zpool does: in a line for people the columns are as wide as they need be.
std::string line_of(const std::vector<Column> &columns, bool plain,
                    const std::function<std::string(const Column &)> &cell) {
    std::string out;
    for (std::size_t i = 0; i < columns.size(); ++i) {
        std::string value = cell(columns[i]);
        if (value.empty()) value = "-";
        const bool is_last = i + 1 == columns.size();
        out += plain || is_last ? value : fmt::format("{:<{}}", value, columns[i].width);
        out += is_last ? "\n" : plain ? "\t" : "  ";
    }
    return out;
}

}  // namespace

Result<> require_columns(const ListLayout &layout) {
    for (const std::string &word : layout.columns)
        if (column_called(word) == nullptr)
            return fail(ErrorCode::kInvalid,
                        "there is no column '{}': name, uuid, tpm, group, domain, state or last-used", word);
    return {};
}

std::string list_text(const Json &vtpms, const ListLayout &layout) {
    if (vtpms.empty()) return layout.plain ? "" : "no vTPMs\n";
    std::vector<Column> columns = columns_of(layout);
    std::string out;
    if (!layout.plain) {
        for (Column &column : columns)
            for (const Json &vtpm : vtpms)
                column.width = std::max(column.width, static_cast<int>(column.value(vtpm).size()));
        out += line_of(columns, false, [](const Column &column) { return std::string(column.name); });
    }
    for (const Json &vtpm : vtpms)
        out += line_of(columns, layout.plain, [&](const Column &column) { return column.value(vtpm); });
    return out;
}

std::string duration(std::uint64_t microseconds) {
    if (microseconds < 1000) return fmt::format("{} us", microseconds);
    if (microseconds < 1'000'000) return fmt::format("{} ms", microseconds / 1000);
    return fmt::format("{} s", microseconds / 1'000'000);
}

std::string names_in_brackets(const Json &vtpm) {
    std::string names = text(vtpm, "alias");
    if (const std::string guest = text(vtpm, "guest"); !guest.empty())
        names += fmt::format("{}last used by guest {}", names.empty() ? "" : ", ", guest);
    return names.empty() ? names : fmt::format(" ({})", names);
}

namespace {

// Since its engine was started.
std::string counted_text(const Json &counted) {
    std::string out = text(counted, "commands");
    if (out != "0")
        out +=
            fmt::format(", half of them within {}, 99 % within {}", duration(counted.value("p50_us", std::uint64_t{0})),
                        duration(counted.value("p99_us", std::uint64_t{0})));
    out += fmt::format("; {} stores", text(counted, "stores"));
    const Json errors = counted.value("errors", Json::object());
    std::string codes;
    for (const auto &[code, count] : errors.items())
        codes += fmt::format("{}{} {} times", codes.empty() ? "" : ", ", code, count.dump());
    return codes.empty() ? out : out + "; errors: " + codes;
}

std::string launch(const Json &vtpm) {
    const std::string approver = text(vtpm, "launch_approver");
    if (approver.empty()) return text(vtpm, "launch");
    return fmt::format("{}, by {}, binding {}", text(vtpm, "launch"), approver, text(vtpm, "launch_binding"));
}

}  // namespace

std::string show_text(const Json &vtpm) {
    std::string out;
    line(out, "vTPM", text(vtpm, "uuid"));
    line(out, "alias", text(vtpm, "alias"));
    line(out, "guest", text(vtpm, "guest"));
    line(out, "last used", last_used(vtpm));
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
    for (const Json &device : vtpm.value("devices", Json::array())) {
        line(out, "device", device_line(device));
        if (const auto counted = device.find("counted"); counted != device.end())
            line(out, "  commands", counted_text(*counted));
    }
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
    constexpr auto kRow = "{:<20}  {:>5}  {:<34}  {:>9}  {:<12}  {}\n";
    std::string out = fmt::format(kRow, "GROUP", "VTPMS", "SEALED TO", "APPROVALS", "RECOVERY KEY", "STATE");
    for (const Json &group : groups)
        out += fmt::format(kRow, text(group, "group"), text(group, "vtpms"), policy(group),
                           text(group, "approver").empty() ? "-" : text(group, "policies"),
                           has_recovery_key(group) ? "yes" : "NONE", state(group));
    return out;
}

std::string show_group_text(const Json &group) {
    std::string out;
    line(out, "group", text(group, "group"));
    // Which nobody vouches for while the group is locked.
    line(out, "sealed to", policy(group) + (text(group, "reason").empty() ? "" : ", says the store"));
    line(out, "boot policies", boot_policies(group));
    line(out, "launches", launch_approvals(group));
    line(out, "recovery key", group.value("recovery_key", false) ? "yes" : "none: xen-vtpm group recovery-key");
    line(out, "vTPMs", text(group, "vtpms"));
    line(out, "created", text(group, "created"));
    line(out, waits(group) ? "waiting" : "locked", text(group, "reason"));
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
    out += fmt::format("The group is locked. With this key, xen-vtpm group recover {} would open it:\n", group);
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

std::string reset_store_text(const Json &reset) { return fmt::format("{} is a new store\n", text(reset, "store")); }

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
