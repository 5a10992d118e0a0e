// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/next_boot.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <set>
#include <sstream>

#include "launch/little_endian.hpp"
#include "launch/pcrs.hpp"
#include "launch/tcg_log.hpp"
#include "manager/boot/event_data.hpp"
#include "manager/boot/kernel_names.hpp"
#include "manager/crypto/encoding.hpp"
#include "manager/crypto/json_object.hpp"

namespace vtpm {
namespace {

// Commands of GRUB (2.06, 2.12) whose files it hands on, and does not obey.
constexpr std::array<std::string_view, 12> kLoadingCommands{"linux",          "linuxefi",   "initrd",   "initrdefi",
                                                            "multiboot",      "multiboot2", "module",   "module2",
                                                            "xen_hypervisor", "xen_module", "loadfont", "chainloader"};
constexpr std::array<std::string_view, 3> kShownFiles{".pf2", ".mo", ".png"};
constexpr std::array<std::string_view, 2> kPartsOfGrub{".mod", ".lst"};
constexpr std::string_view kInGrub = "(memdisk)";  // files in GRUB's own image
constexpr std::string_view kCommand = "grub_cmd: ";
constexpr unsigned kStubSections = 11;
constexpr std::uint32_t kLoaderConfTag = 0xf5bc582a;  // systemd-boot's, from systemd 255 on
constexpr const char *kLoaderConf = "/loader/loader.conf";

bool is_grub_file(const launch::LogEvent &event) { return event.pcr == kGrubFiles && event.type == kIplEvent; }

bool is_image(const launch::LogEvent &event) {
    return event.pcr == kLoaders && event.type >= kApplicationEvent && event.type <= kApplicationEvent + 2;
}

// UAPI.7: systemd-stub's own sections; into 12 and 13 what it, or systemd-boot, was given besides. Before systemd 252
// that went into 4 and 8, where GRUB has ASCII and firmware has images.
bool is_of_stub(const launch::LogEvent &event) {
    const bool is_utf16 = event.data.size() >= 2 && event.data[0] != 0 && event.data[1] == 0;
    const bool former = (event.pcr == kLoaders || event.pcr == kGrubCommands) && event.type == kIplEvent && is_utf16;
    return former || (event.pcr >= kStubSections && event.pcr <= kStubSections + 2);
}

bool is_loader_conf(const launch::LogEvent &event) {
    launch::LittleEndianReader tag(event.data);
    return event.pcr == kLoaderSettings && event.type == kTaggedEvent && tag.number<std::uint32_t>() == kLoaderConfTag;
}

bool ends_with_one_of(std::string_view name, std::span<const std::string_view> endings) {
    return std::ranges::any_of(endings, [&](std::string_view ending) { return name.ends_with(ending); });
}

// To its NUL.
std::string text_in(ByteView data) {
    const auto end = std::ranges::find(data, 0);
    return {data.begin(), end};
}

// "(hd0,gpt2)/boot/grub/grub.cfg": the device is GRUB's.
std::string path_of_grub(const std::string &name) {
    return name.starts_with('(') ? name.substr(std::min(name.find(')') + 1, name.size())) : name;
}

std::string path_of_firmware(std::string name) {
    std::ranges::replace(name, '\\', '/');
    return name;
}

// Mixed endian (UEFI, appendix A), as efivarfs writes it.
std::string guid_text(ByteView guid) {
    launch::LittleEndianReader reader(guid);
    const auto first = reader.number<std::uint32_t>().value_or(0);
    const auto second = reader.number<std::uint16_t>().value_or(0);
    const auto third = reader.number<std::uint16_t>().value_or(0);
    const std::string rest = to_hex(guid.subspan(8));
    return fmt::format("{:08x}-{:04x}-{:04x}-{}-{}", first, second, third, rest.substr(0, 4), rest.substr(4));
}

// An event of the present boot, and the digest that it will have.
struct Step {
    const launch::LogEvent *event = nullptr;
    Bytes now;  // empty: it extends other banks only
    Bytes next;
};

class Forecast {
public:
    Forecast(const launch::TcgLog &log, launch::Hash bank, const BootFiles &files) : bank_(bank), files_(files) {
        for (const launch::LogEvent &event : log.events) {
            const auto digest =
                std::ranges::find(event.digests, static_cast<std::uint16_t>(bank), &launch::LogDigest::algorithm);
            Bytes now = digest != event.digests.end() ? Bytes(digest->value.begin(), digest->value.end()) : Bytes();
            steps_.push_back({&event, now, now});
        }
        find_handed_on();
    }

    Result<> run() {
        VTPM_TRY(find_renaming());
        // In the order of the log: what was started is among the files that were read before.
        for (Step &step : steps_) {
            if (step.now.empty()) continue;
            if (is_grub_file(*step.event)) read_file(step);
            if (is_image(*step.event)) start_image(step);
            if (step.event->pcr == kGrubCommands && renaming_) VTPM_TRY(rename_command(step));
            if (step.event->pcr == kGrubFiles && step.event->type == kTaggedEvent) hand_on(step);
            if (is_of_stub(*step.event)) measure_itself(step);
            if (is_loader_conf(*step.event)) read_loader_conf(step);
            if (step.event->pcr == kSecureBoot && step.event->type == kVariableConfigEvent)
                VTPM_TRY(read_variable(step));
        }
        consider_keys();
        consider_grub();
        consider_stub();
        consider_loader_conf();
        return {};
    }

    // The first reason counts.
    void do_not_know(unsigned pcr, const std::string &why) { unknown_.try_emplace(pcr, why); }

    // As the next boot will have it.
    [[nodiscard]] std::string renamed(const std::string &text) const {
        return renaming_ ? renaming_->forward(text) : text;
    }

    [[nodiscard]] const std::vector<Step> &steps() const { return steps_; }
    [[nodiscard]] const std::map<unsigned, std::string> &unknown() const { return unknown_; }
    [[nodiscard]] const std::vector<std::string> &assumptions() const { return assumptions_; }
    [[nodiscard]] std::string why(unsigned pcr) const {
        const auto changed = changed_.find(pcr);
        return changed == changed_.end() ? "as now" : fmt::format("changed: {}", fmt::join(changed->second, ", "));
    }

private:
    struct ReadFile {
        std::string name;
        FileDigests digests;
        bool changed = false;
    };

    void find_handed_on() {
        for (const Step &step : steps_) {
            const std::string text = step.event->pcr == kGrubCommands ? text_in(step.event->data) : std::string();
            if (!text.starts_with(kCommand)) continue;
            std::istringstream words(text.substr(kCommand.size()));
            std::string command;
            words >> command;
            if (std::ranges::find(kLoadingCommands, command) == kLoadingCommands.end()) continue;
            for (std::string word; words >> word;) handed_on_.insert(word);
        }
    }

    // An update of a kernel changes its version in GRUB's configuration. If nothing else is another one, the commands
    // are the former with that version: whether it is so, the digest of the former configuration tells, which nobody
    // has any more. Another file that GRUB obeys must not know of versions.
    Result<> find_renaming() {
        std::string commands;
        for (const Step &step : steps_)
            if (step.event->pcr == kGrubCommands) commands += text_in(step.event->data) + "\n";
        const std::vector<std::string> then = kernel_versions(commands);
        std::string others;
        for (const Step &step : steps_) {
            const std::string name = is_grub_file(*step.event) ? text_in(step.event->data) : std::string();
            if (name.empty() || name.starts_with(kInGrub) || !is_obeyed(name)) continue;
            for (const std::string &text : files_.read(path_of_grub(name))) {
                VTPM_ASSIGN(const bool same, is_digest_of(step.now, text));
                const Renaming renaming{then, kernel_versions(text)};
                const bool possible = !same && !then.empty() && then.size() == renaming.now.size();
                const std::string former = possible ? renaming.backward(text) : std::string();
                VTPM_ASSIGN(const bool renamed, is_digest_of(step.now, former));
                if (same) others += text;
                if (!renamed || !possible || renaming.forward(former) != text) continue;
                renaming_ = renaming;
                renamed_.insert(name);
            }
        }
        const auto known = [&](const std::string &version) { return others.find(version) != std::string::npos; };
        if (renaming_ && (std::ranges::any_of(renaming_->then, known) || std::ranges::any_of(renaming_->now, known))) {
            renaming_.reset();
            renamed_.clear();
        }
        return {};
    }

    // GRUB measures the words behind what it says of them: "grub_cmd: ", "kernel_cmdline: ", "module_cmdline: ".
    Result<> rename_command(Step &step) {
        constexpr std::string_view kEnd = ": ";
        const std::string text = text_in(step.event->data);
        const std::string words = text.substr(std::min(text.find(kEnd), text.size() - kEnd.size()) + kEnd.size());
        const std::string next = renaming_->forward(words);
        if (next == words) return {};
        VTPM_ASSIGN(const bool is_it, is_digest_of(step.now, words));
        if (!is_it) {
            do_not_know(kGrubCommands, "GRUB measured another command than it logged");
            return {};
        }
        VTPM_ASSIGN(step.next, digest_of(bytes_of(next)));
        change(kGrubCommands, "the kernel's version");
        return {};
    }

    [[nodiscard]] Result<bool> is_digest_of(const Bytes &digest, std::string_view text) const {
        VTPM_ASSIGN(const Bytes found, digest_of(bytes_of(text)));
        return found == digest;
    }

    // GRUB obeys what it reads, unless a command hands it on.
    [[nodiscard]] bool is_obeyed(const std::string &name) const {
        return !handed_on_.contains(name) && !ends_with_one_of(name, kShownFiles) &&
               !ends_with_one_of(name, kPartsOfGrub);
    }

    void change(unsigned pcr, const std::string &name) {
        auto &names = changed_[pcr];
        if (std::ranges::find(names, name) == names.end()) names.push_back(name);
    }

    // The one of `found` that has the digest, or the only one; or says of `pcr` why it is none.
    const FileDigests *choose(const std::vector<FileDigests> &found, Bytes FileDigests::*digest, const Bytes &now,
                              unsigned pcr, const std::string &name) {
        const auto same = std::ranges::find(found, now, digest);
        if (same != found.end()) return &*same;
        if (found.size() == 1 && !(found[0].*digest).empty()) return found.data();
        const char *why = "is not on this host";
        if (!found.empty())
            why = found.size() == 1 ? "is no PE image of which all would be measured" : "is there more than once";
        do_not_know(pcr, fmt::format("{} {}", name, why));
        return nullptr;
    }

    void read_file(Step &step) {
        const std::string former = text_in(step.event->data);
        const std::string name = renamed(former);
        const std::string shown = printable(name);
        if (name.starts_with(kInGrub)) {
            reads_from_grub_ = true;
            obeys_itself_ |= is_obeyed(former);
            return;
        }
        const auto found = files_.find(path_of_grub(name));
        const FileDigests *file = choose(found, &FileDigests::content, step.now, kGrubFiles, shown);
        const bool changed = file == nullptr || file->content != step.now;
        if (changed && is_obeyed(former) && !renamed_.contains(former)) {
            obeys_another_ = true;
            for (const unsigned pcr : {kGrubCommands, kGrubFiles})
                do_not_know(pcr, fmt::format("GRUB obeys {}, which is another one: it may run other commands", shown));
        }
        any_changed_ |= changed;
        if (file == nullptr) return;
        if (changed) {
            change(kGrubFiles, shown);
            grub_changed_ |= ends_with_one_of(name, kPartsOfGrub);
        }
        step.next = file->content;
        read_.push_back({shown, *file, changed});
        became_.emplace(step.now, file->content);
    }

    void start_image(Step &step) {
        if (obeys_another_) do_not_know(kLoaders, "GRUB obeys another configuration, and may start something else");
        const std::string name = image_file(step.event->data);
        if (name.starts_with('\\'))
            start_file(step, name);
        else
            start_from_memory(step);
        started_.emplace(step.now, step.next);
    }

    // shim before 16 logged what it started by its own path.
    void start_file(Step &step, std::string name) {
        if (!started_files_.insert(name).second) name = name.substr(0, name.rfind('\\') + 1) + "grubx64.efi";
        const auto found = files_.find(path_of_firmware(name));
        const bool first = loaders_++ == 0;
        const FileDigests *file = choose(found, &FileDigests::image, step.now, kLoaders, name);
        loader_changed_ |= file == nullptr || file->image != step.now;
        any_changed_ |= loader_changed_;
        if (first) first_loader_changed_ = loader_changed_;
        if (file == nullptr || file->image == step.now) return;
        step.next = file->image;
        change(kLoaders, name);
    }

    // What a loader read from a file and then started or had verified, without saying which.
    void start_from_memory(Step &step) {
        starts_from_memory_ = true;
        const auto before = started_.find(step.now);
        if (before != started_.end()) {
            step.next = before->second;
            return;
        }
        std::vector<const ReadFile *> candidates;
        for (const ReadFile &file : read_) {
            if (file.digests.image == step.now) return;
            const bool listed = std::ranges::any_of(candidates, [&](const auto *c) { return c->name == file.name; });
            if (file.changed && !file.digests.image.empty() && !listed) candidates.push_back(&file);
        }
        if (candidates.size() == 1) {
            step.next = candidates[0]->digests.image;
            change(kLoaders, candidates[0]->name);
        } else if (any_changed_) {
            do_not_know(kLoaders, "something was started of which it is not told in which file it is");
        }
    }

    // The initrd, as Linux' EFI stub measures it again.
    void hand_on(Step &step) {
        const auto file = became_.find(step.now);
        if (file != became_.end())
            step.next = file->second;
        else if (any_changed_)
            do_not_know(kGrubFiles, fmt::format("the kernel measured '{}' again, which is no file of its own",
                                                text_of(step.event->type, step.event->data)));
    }

    void measure_itself(const Step &step) {
        has_stub_ = true;
        if (!any_changed_) return;
        const char *what = step.event->pcr == kStubSections ? "in its image" : "in its image, or given to it";
        do_not_know(step.event->pcr,
                    fmt::format("systemd-stub measures what is {}, and what was started is another one", what));
    }

    void read_loader_conf(Step &step) {
        has_loader_conf_ = true;
        const auto found = files_.find(kLoaderConf);
        const FileDigests *file = choose(found, &FileDigests::content, step.now, kLoaderSettings, kLoaderConf);
        if (file != nullptr && file->content == step.now) return;
        any_changed_ = obeys_another_ = true;
        for (const unsigned pcr :
             {kLoaders, kGrubCommands, kGrubFiles, kStubSections, kStubSections + 1, kStubSections + 2})
            do_not_know(pcr, fmt::format("systemd-boot obeys {}, which is another one: it may start something else",
                                         kLoaderConf));
        if (file == nullptr) return;
        step.next = file->content;
        change(kLoaderSettings, kLoaderConf);
    }

    Result<> read_variable(Step &step) {
        const auto variable = firmware_variable(step.event->data);
        if (!variable) return {};
        const auto now = files_.variable(fmt::format("{}-{}", variable->name, guid_text(variable->vendor)));
        if (!now && !variable->data.empty())
            do_not_know(kSecureBoot, fmt::format("the firmware's variable {} cannot be read", variable->name));
        if (!now || std::ranges::equal(*now, variable->data)) return {};
        VTPM_ASSIGN(const Bytes digest, digest_of(step.event->data));
        if (digest != step.now) {
            do_not_know(kSecureBoot,
                        fmt::format("{} changed, and this firmware measures it in a way of its own", variable->name));
            return {};
        }
        VTPM_ASSIGN(step.next, digest_of(with_data(step.event->data, *variable, *now)));
        change(kSecureBoot, variable->name);
        return {};
    }

    static Bytes with_data(ByteView event, const FirmwareVariable &variable, const Bytes &data) {
        constexpr std::size_t kGuidAndLength = 16 + 8;
        const ByteView name =
            event.subspan(kGuidAndLength + 8, event.size() - kGuidAndLength - 8 - variable.data.size());
        launch::LittleEndianWriter out;
        out.raw(event.first(kGuidAndLength)).number(std::uint64_t{data.size()}).raw(name).raw(data);
        return out.bytes();
    }

    Result<Bytes> digest_of(ByteView bytes) const {
        VTPM_ASSIGN(auto digests, launch::digests_of(bytes, {bank_}));
        return std::move(digests[bank_]);
    }

    // Of what was started, PCR 7 has who vouched for it.
    void consider_keys() {
        const auto is_authority = [](const Step &step) { return step.event->type == kVariableAuthorityEvent; };
        const auto is_sbat = [&](const Step &step) {
            const auto variable = is_authority(step) ? firmware_variable(step.event->data) : std::nullopt;
            return variable && variable->name == "SbatLevel";
        };
        if (first_loader_changed_ && std::ranges::any_of(steps_, is_sbat))
            do_not_know(kSecureBoot, "the first boot loader (shim) is another one: it may raise SbatLevel");
        if ((changed_.contains(kLoaders) || obeys_another_) && std::ranges::any_of(steps_, is_authority))
            assumptions_.emplace_back("who signed what was started so far signed its new versions too (PCR 7)");
    }

    // The entries of systemd-boot are in no PCR, but what they give to a kernel is.
    void consider_stub() {
        if (has_stub_)
            assumptions_.emplace_back(
                "systemd-boot and systemd-stub are given the command line, credentials and extensions that they were "
                "given now (12, 13; before systemd 252: 4, 8)");
    }

    void consider_loader_conf() {
        if (loader_changed_ && !has_loader_conf_ && !files_.find(kLoaderConf).empty())
            do_not_know(kLoaderSettings,
                        fmt::format("what is started is another one: if it is a systemd-boot of 255 or "
                                    "later, it measures {}, which this one did not",
                                    kLoaderConf));
    }

    void consider_grub() {
        constexpr auto kInItself = "GRUB is another one, and reads files that are in itself";
        if (loader_changed_ && reads_from_grub_) do_not_know(kGrubFiles, kInItself);
        if (loader_changed_ && obeys_itself_) do_not_know(kGrubCommands, kInItself);
        if (loader_changed_ && obeys_itself_ && starts_from_memory_) do_not_know(kLoaders, kInItself);
        if ((loader_changed_ || grub_changed_) && !read_.empty())
            assumptions_.emplace_back("the new GRUB runs, reads and starts what the former did (4, 8, 9)");
    }

    launch::Hash bank_;
    const BootFiles &files_;
    std::vector<Step> steps_;
    std::optional<Renaming> renaming_;
    std::set<std::string> renamed_;    // files that GRUB obeys, in which nothing else changed
    std::set<std::string> handed_on_;  // words of GRUB's commands that load
    std::vector<ReadFile> read_;
    std::map<Bytes, Bytes> became_;   // content of a file that GRUB read, now and then
    std::map<Bytes, Bytes> started_;  // image, now and then
    std::set<std::string> started_files_;
    std::size_t loaders_ = 0;
    bool reads_from_grub_ = false;
    bool obeys_itself_ = false;
    bool obeys_another_ = false;
    bool starts_from_memory_ = false;
    bool grub_changed_ = false;  // a part of it that is a file of its own
    bool any_changed_ = false;   // of what was read or started so far
    bool loader_changed_ = false;
    bool first_loader_changed_ = false;
    bool has_stub_ = false;
    bool has_loader_conf_ = false;
    std::map<unsigned, std::vector<std::string>> changed_;
    std::map<unsigned, std::string> unknown_;
    std::vector<std::string> assumptions_;
};

// UAPI.7, "Linux TPM PCR registry": IMA, systemd and programs; 16 and up are no boot's.
bool is_of_running_system(unsigned pcr) { return pcr == 10 || pcr == 11 || pcr >= 15; }

}  // namespace

Result<NextBoot> next_boot(ByteView log, const PcrSelection &pcrs, const std::optional<PcrValues> &present,
                           const BootFiles &files) {
    VTPM_ASSIGN(BootLog boot, parse_event_log(log, pcrs));
    VTPM_ASSIGN(const PcrValues explained, replayed(boot, pcrs));
    const auto read = launch::read_tcg_log(log);
    const auto bank = launch::hash_of_algorithm(pcrs.tpm().pcrSelections[0].hash).value_or(launch::Hash::kSha256);
    Forecast forecast(*read, bank, files);
    for (const unsigned pcr : pcrs.numbers()) {
        if (present && present->at(pcr) != explained.at(pcr))
            forecast.do_not_know(pcr, "more was measured into it than the firmware's log has");
        if (!present && is_of_running_system(pcr)) forecast.do_not_know(pcr, "dom0 itself extends it");
    }
    VTPM_TRY(forecast.run());
    auto event = boot.events.begin();
    for (const Step &step : forecast.steps())
        if (step.event->type != launch::kNoActionEvent && explained.contains(step.event->pcr)) {
            event->digest = step.next;
            event->text = forecast.renamed(event->text);
            ++event;
        }
    NextBoot next;
    VTPM_ASSIGN(next.values, replayed(boot, pcrs));
    for (const auto &[pcr, why] : forecast.unknown())
        if (next.values.erase(pcr) != 0) next.unknown.emplace(pcr, why);
    for (const auto &[pcr, value] : next.values) next.why.emplace(pcr, forecast.why(pcr));
    next.events = std::move(boot.events);
    std::erase_if(next.events, [&](const BootEvent &of) { return next.unknown.contains(of.pcr); });
    next.assumptions = forecast.assumptions();
    next.assumptions.insert(next.assumptions.begin(),
                            "it is started as this one was: same firmware, boot entry and choice in GRUB's menu");
    return next;
}

}  // namespace vtpm
