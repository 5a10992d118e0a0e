// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/boot_chain.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>

#include "manager/boot/event_data.hpp"

namespace vtpm {
namespace {

constexpr unsigned kLastFirmwarePcr = 7;
constexpr unsigned kUki = 11;
constexpr unsigned kUkiSettings = 12;
constexpr unsigned kUkiExtensions = 13;

// What the log tells of the way to dom0's kernel.
struct Facts {
    bool any = false;  // the firmware measured something
    std::optional<bool> secure_boot;
    bool grub = false;
    std::size_t grub_files = 0;
    bool linux_stub = false;
    bool uki = false;
    std::vector<std::string> started;  // files; "?" for one without a name
    std::vector<unsigned> errors;      // PCRs that the firmware closed with an error
};

bool is_text(ByteView data, std::string_view beginning) {
    return data.size() >= beginning.size() && std::ranges::equal(data.first(beginning.size()), bytes_of(beginning));
}

std::optional<bool> secure_boot_in(const launch::LogEvent &event) {
    const auto variable = firmware_variable(event.data);
    if (!variable || variable->name != "SecureBoot") return std::nullopt;
    return variable->data.size() == 1 && variable->data[0] == 1;
}

// PFP 1.06, 10.4.1: 1 is the separator of an error.
bool is_error(const launch::LogEvent &event) {
    constexpr std::string_view kError("\1\0\0\0", 4);
    return event.type == kSeparatorEvent && std::ranges::equal(event.data, bytes_of(kError));
}

void add(Facts &facts, const launch::LogEvent &event) {
    constexpr std::string_view kKernelSection(".\0l\0i\0n\0u\0x\0", 12);
    if (event.type == launch::kNoActionEvent) return;
    facts.any |= event.pcr <= kLastFirmwarePcr;
    if (is_error(event)) facts.errors.push_back(event.pcr);
    if (event.pcr == kSecureBoot && event.type == kVariableConfigEvent)
        if (const auto secure_boot = secure_boot_in(event)) facts.secure_boot = secure_boot;
    if (event.pcr == kLoaders && event.type == kApplicationEvent) {
        const std::string file = image_file(event.data);
        facts.started.push_back(file.empty() ? "?" : file);
    }
    facts.grub |= event.pcr == kGrubCommands && is_text(event.data, "grub_cmd: ");
    facts.grub_files += event.pcr == kGrubFiles && event.type == kIplEvent ? 1 : 0;
    facts.linux_stub |= event.pcr == kGrubFiles && event.type == kTaggedEvent;
    facts.uki |= event.pcr == kUki && is_text(event.data, kKernelSection);
}

Facts facts_of(const launch::TcgLog &log) {
    Facts facts;
    for (const launch::LogEvent &event : log.events) add(facts, event);
    return facts;
}

const char *secure_boot_text(const Facts &facts) {
    if (!facts.secure_boot) return "whether Secure Boot is on";
    return *facts.secure_boot ? "Secure Boot is on" : "Secure Boot is OFF";
}

std::string read_files(const Facts &facts) {
    std::string text;
    if (facts.grub_files != 0) text = fmt::format("the {} files that GRUB read", facts.grub_files);
    if (facts.linux_stub)
        text += std::string(text.empty() ? "" : "; ") + "initrd and command line, as the kernel itself got them";
    return text.empty() ? "files that GRUB reads: configuration, Xen, kernel, initrd" : text;
}

// UAPI.7, "Linux TPM PCR registry", and PFP 1.06, 3.3.4.
std::string covers(unsigned pcr, const Facts &facts) {
    switch (pcr) {
        case 0:
            return "the firmware";
        case 1:
            return "settings of the firmware and of the machine";
        case 2:
            return "firmware of plug-in cards";
        case 3:
            return "settings of plug-in cards";
        case kLoaders:
            return facts.started.empty() ? "what the firmware and boot loaders started"
                                         : fmt::format("what was started: {}", fmt::join(facts.started, ", "));
        case 5:
            return "partition tables, and how the firmware was left";
        case 6:
            return "what the machine's maker chose";
        case kSecureBoot:
            return fmt::format("{}, its keys, and those that vouched", secure_boot_text(facts));
        case kGrubCommands:
            return "GRUB's commands, with the command lines of Xen and kernel";
        case kGrubFiles:
            return read_files(facts);
        case 10:
            return "what runs in dom0 (IMA), another value all the time";
        case kUki:
            return "the parts of a UKI, and how far its system has started: another value after the boot";
        case kUkiSettings:
            return "command line and credentials that a UKI was given";
        case kUkiExtensions:
            return "extensions that a UKI was given";
        case 14:
            return "keys that shim was given (MOK)";
        default:
            return "nothing of the boot that we know of";
    }
}

bool is_blank(const Bytes &value) {
    return std::ranges::all_of(value, [&](std::uint8_t byte) { return byte == value[0]; }) &&
           (value.empty() || value[0] == 0 || value[0] == 0xff);
}

std::vector<unsigned> blank_pcrs(const PcrValues &values) {
    std::vector<unsigned> blank;
    for (const auto &[pcr, value] : values)
        if (is_blank(value)) blank.push_back(pcr);
    return blank;
}

// The values' part.
void warn_of_blank(const PcrValues &values, std::vector<std::string> &warnings) {
    const std::vector<unsigned> blank = blank_pcrs(values);
    if (blank.empty()) return;
    const bool none_of_firmware = std::ranges::all_of(values, [&](const auto &entry) {
        return entry.first > kLastFirmwarePcr || std::ranges::binary_search(blank, entry.first);
    });
    if (blank.front() <= kLastFirmwarePcr && none_of_firmware)
        warnings.emplace_back("no firmware measured this boot: is the TPM enabled in its settings?");
    warnings.push_back(
        fmt::format("nothing was measured into PCR {}: that value tells of no boot", fmt::join(blank, ", ")));
}

// The log's part.
void warn_of_chain(const Facts &facts, const PcrValues &values, std::vector<std::string> &warnings) {
    for (const unsigned pcr : facts.errors)
        warnings.push_back(fmt::format("PCR {}: the firmware says that it could not measure all", pcr));
    if (values.contains(kSecureBoot) && facts.secure_boot == false)
        warnings.emplace_back("Secure Boot is off: PCR 7 tells that, and nothing of what was started");
    for (const unsigned pcr : {kGrubCommands, kGrubFiles})
        if (facts.grub && !values.contains(pcr))
            warnings.push_back(fmt::format("GRUB measured {} into PCR {}, which is not chosen",
                                           pcr == kGrubFiles ? "Xen, kernel and initrd" : "command lines", pcr));
    for (const unsigned pcr : {kUkiSettings, kUkiExtensions})
        if (facts.uki && !values.contains(pcr))
            warnings.push_back(fmt::format("a UKI can be given {}, which are measured into PCR {}: it is not chosen",
                                           pcr == kUkiSettings ? "a command line and credentials" : "extensions", pcr));
    if (facts.any && !facts.grub && !facts.uki && !facts.linux_stub)
        warnings.push_back(fmt::format(
            "what {} read from a disk was measured by nobody: kernel, initrd and command lines are in PCR 4 only as "
            "far as they are parts of it (a unified xen.efi)",
            facts.started.empty() ? "the boot loader" : facts.started.back()));
}

}  // namespace

BootChain boot_chain(const launch::TcgLog &log, const PcrValues &values) {
    const Facts facts = facts_of(log);
    BootChain chain;
    for (const auto &[pcr, value] : values) chain.covers[pcr] = is_blank(value) ? "nothing" : covers(pcr, facts);
    warn_of_blank(values, chain.warnings);
    warn_of_chain(facts, values, chain.warnings);
    return chain;
}

}  // namespace vtpm
