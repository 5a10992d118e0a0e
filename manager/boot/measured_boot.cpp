// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/measured_boot.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

#include "base/number.hpp"
#include "manager/boot/next_boot.hpp"
#include "manager/boot/pcr_json.hpp"
#include "manager/crypto/encoding.hpp"
#include "manager/tpm/tpm_device.hpp"

namespace vtpm {
namespace {

constexpr std::size_t kMaxFile = 1'048'576;  // with a long event log

std::optional<std::string> content(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return std::nullopt;
    return std::string(std::istreambuf_iterator<char>(file), {});
}

// The kernel writes capitals and a newline.
std::optional<Bytes> digest_in(const std::string &path) {
    auto text = content(path);
    if (!text) return std::nullopt;
    while (!text->empty() && text->back() == '\n') text->pop_back();
    std::ranges::transform(*text, text->begin(), [](char c) { return c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c; });
    return from_hex(*text);
}

Result<PcrValues> read_pcrs(const PcrSelection &pcrs, const std::string &directory) {
    const std::string bank = pcrs.to_string().substr(0, pcrs.to_string().find(':'));
    PcrValues values;
    for (const unsigned pcr : pcrs.numbers()) {
        const std::string path = fmt::format("{}/pcr-{}/{}", directory, bank, pcr);
        const auto digest = digest_in(path);
        if (!digest || digest->empty())
            return fail(ErrorCode::kUnavailable, "{} cannot be read: has this host a TPM 2.0 with a bank {}?", path,
                        bank);
        values.emplace(pcr, *digest);
    }
    return values;
}

// Nothing of a file that is not there.
std::string log_at(const std::string &path) { return content(path).value_or(std::string()); }

// Whoever takes a prediction has to hear of these.
constexpr std::string_view kUnknown = "unknown";

// What `policy measure` prints for people: the selection, then a line for each PCR. What is indented or begins with a
// '#' is words.
std::optional<std::string> json_of_text(std::string_view text) {
    std::istringstream lines{std::string(text)};
    std::string pcrs;
    Json values = Json::object();
    Json unknown = Json::object();
    for (std::string line; std::getline(lines, line);) {
        if (line.find_first_not_of(" \t\r") == std::string::npos || line.starts_with('#') || line.starts_with(' '))
            continue;
        std::istringstream words(line);
        std::string label;
        std::string pcr;
        std::string value;
        std::string more;
        words >> label >> pcr;
        const bool selection = label == "PCRs" && pcrs.empty();
        if (!selection) words >> value;
        if (words.fail() || words >> more) return std::nullopt;
        if (selection)
            pcrs = pcr;
        else if (label != "PCR" || values.contains(pcr) || unknown.contains(pcr))
            return std::nullopt;
        else
            (value == kUnknown ? unknown : values)[pcr] = value;
    }
    const Json document{{"pcrs", pcrs}, {"values", values}, {"unknown", unknown}};
    return document.dump(-1, ' ', true, Json::error_handler_t::replace);
}

PcrSelection of_same_bank(const PcrSelection &pcrs, const PcrValues &values) {
    std::string text = pcrs.to_string().substr(0, pcrs.to_string().find(':') + 1);
    for (const auto &[pcr, value] : values) text += fmt::format("{}{}", text.back() == ':' ? "" : ",", pcr);
    return PcrSelection::parse(text).value_or(PcrSelection());
}

Result<std::map<unsigned, std::string>> unknown_in(const JsonObject &object) {
    std::map<unsigned, std::string> unknown;
    const Json &all = object.all();
    if (!object.has(kUnknown)) return unknown;
    for (const auto &[pcr, why] : all.at(std::string(kUnknown)).items()) {
        const auto number = parse_number(pcr);
        if (!number || !why.is_string()) return object.invalid("has PCRs in 'unknown' that are none");
        unknown.emplace(*number, why.get<std::string>());
    }
    return unknown;
}

}  // namespace

std::vector<BootEvent> read_event_log(const PcrSelection &pcrs, const std::string &path) {
    const std::string log = log_at(path);
    // Text as bytes; char and unsigned char may alias.
    return parse_event_log(bytes_of(log), pcrs).value_or(BootLog()).events;
}

BootSources BootSources::of_this_host() {
    const auto tpm = find_hardware_tpm({});
    if (!tpm) return {};
    return {fmt::format("/sys/class/tpm/tpm{}", tpm->number),
            fmt::format("/sys/kernel/security/tpm{}/binary_bios_measurements", tpm->number)};
}

// Without a log, or with one that the kernel did not understand either, there are values and no words.
Result<MeasuredBoot> measure_boot(const PcrSelection &pcrs, const BootSources &sources) {
    if (pcrs.empty()) return fail(ErrorCode::kInvalid, "select at least one PCR");
    MeasuredBoot boot{pcrs, {}, {}, {}};
    VTPM_ASSIGN(boot.values, read_pcrs(pcrs, sources.pcrs));
    const std::string file = log_at(sources.event_log);
    boot.chain = boot_chain(launch::read_tcg_log(bytes_of(file)).value_or(launch::TcgLog()), boot.values);
    auto log = parse_event_log(bytes_of(file), pcrs);
    if (!log) return boot;
    VTPM_ASSIGN(const PcrValues explained, replayed(*log, pcrs));
    for (const auto &[pcr, value] : boot.values)
        if (explained.at(pcr) != value) boot.unexplained.push_back(pcr);
    boot.events = std::move(log->events);
    return boot;
}

Result<MeasuredBoot> predict_boot(const PcrSelection &pcrs, const BootSources &sources, const std::string &root) {
    if (pcrs.empty()) return fail(ErrorCode::kInvalid, "select at least one PCR");
    const std::string log = log_at(sources.event_log);
    if (log.empty())
        return fail(ErrorCode::kUnavailable,
                    "there is no event log of the present boot in {}, without which nobody can tell what the next one "
                    "measures: give one, --event-log",
                    sources.event_log);
    std::optional<PcrValues> present;
    if (!sources.pcrs.empty()) {
        VTPM_ASSIGN(present, read_pcrs(pcrs, sources.pcrs));
    }
    const auto bank = launch::hash_of_algorithm(pcrs.tpm().pcrSelections[0].hash).value_or(launch::Hash::kSha256);
    VTPM_ASSIGN(NextBoot next, next_boot(bytes_of(log), pcrs, present, files_of_host(root, bank)));
    if (next.values.empty())
        return fail(ErrorCode::kUnavailable, "nothing of {} can be predicted: PCR {}: {}", pcrs.to_string(),
                    next.unknown.begin()->first, next.unknown.begin()->second);
    MeasuredBoot boot{of_same_bank(pcrs, next.values), std::move(next.values), std::move(next.events), {}};
    boot.chain = boot_chain(launch::read_tcg_log(bytes_of(log)).value_or(launch::TcgLog()), boot.values);
    boot.chain.covers = std::move(next.why);
    for (const std::string &assumption : next.assumptions)
        boot.chain.warnings.push_back("this holds only if " + assumption);
    boot.unknown = std::move(next.unknown);
    return boot;
}

std::string to_json(const MeasuredBoot &boot) {
    Json values = Json::object();
    for (const auto &[pcr, value] : boot.values) values[std::to_string(pcr)] = to_hex(value);
    Json events = Json::array();
    for (const BootEvent &event : boot.events)
        events.push_back(
            {{"pcr", event.pcr}, {"type", event.type}, {"digest", to_hex(event.digest)}, {"text", event.text}});
    Json covers = Json::object();
    for (const auto &[pcr, what] : boot.chain.covers) covers[std::to_string(pcr)] = what;
    Json unknown = Json::object();
    for (const auto &[pcr, why] : boot.unknown) unknown[std::to_string(pcr)] = why;
    const Json object{{"pcrs", boot.pcrs.to_string()}, {"values", std::move(values)},
                      {"events", std::move(events)},   {"unexplained", boot.unexplained},
                      {"covers", std::move(covers)},   {"warnings", boot.chain.warnings},
                      {"unknown", std::move(unknown)}};
    return object.dump(2) + "\n";
}

Result<MeasuredBoot> parse_measured_boot(std::string_view text) {
    const bool json = text.find_first_not_of(" \t\r\n") == text.find('{');
    const std::optional<std::string> document = json ? std::string(text) : json_of_text(text);
    if (!document)
        return fail(ErrorCode::kInvalid, "this is not what xen-vtpm policy measure prints, with --json or without it");
    VTPM_ASSIGN(const JsonObject object, JsonObject::parse(*document, kMaxFile, "a file of PCR values"));
    MeasuredBoot boot;
    VTPM_ASSIGN(boot.pcrs, pcrs_in(object));
    VTPM_ASSIGN(boot.values, values_in(object, boot.pcrs));
    VTPM_ASSIGN(boot.unknown, unknown_in(object));
    return boot;
}

}  // namespace vtpm
