// SPDX-License-Identifier: Apache-2.0
#include "manager/tpm/tpm_device.hpp"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <vector>

#include "base/number.hpp"

namespace vtpm {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "tpmrm";  // of TPMs 2.0 only: TPMs 1.2 have no resource manager in the kernel

std::optional<unsigned> number_of(const std::string &entry) {
    if (!entry.starts_with(kPrefix)) return std::nullopt;
    return parse_number(std::string_view(entry).substr(kPrefix.size()));
}

// None: nobody made it (vtpm_proxy), or Xen did, for this domain.
std::optional<std::string> name_of(const fs::path &entry) {
    std::error_code ignored;
    const fs::path device = fs::canonical(entry / "device", ignored);
    if (device.empty() || fs::canonical(device / "subsystem", ignored).filename() == "xen") return std::nullopt;
    return device.filename().string();
}

std::vector<TpmDevice> hardware_tpms(const std::string &sysfs) {
    std::vector<TpmDevice> found;
    std::error_code gone;  // a TPM may go while we look
    for (fs::directory_iterator entry(sysfs + "/class/tpmrm", gone), end; !gone && entry != end;
         entry.increment(gone)) {
        const auto number = number_of(entry->path().filename());
        auto name = name_of(entry->path());
        if (number && name) found.push_back({*number, std::move(*name)});
    }
    std::ranges::sort(found, {}, &TpmDevice::number);
    return found;
}

std::string list(const std::vector<TpmDevice> &tpms) {
    std::string text;
    for (const TpmDevice &tpm : tpms)
        text += fmt::format("{}{} (/dev/tpmrm{})", text.empty() ? "" : ", ", tpm.name, tpm.number);
    return text;
}

}  // namespace

Result<TpmDevice> find_hardware_tpm(const std::string &name, const std::string &sysfs) {
    const std::vector<TpmDevice> tpms = hardware_tpms(sysfs);
    if (tpms.empty())
        return fail(ErrorCode::kUnavailable,
                    "this host has no hardware TPM 2.0 ({}/class/tpmrm): is it enabled in the firmware, and its driver "
                    "loaded?",
                    sysfs);
    if (!name.empty()) {
        const auto named = std::ranges::find(tpms, name, &TpmDevice::name);
        if (named != tpms.end()) return *named;
        return fail(ErrorCode::kUnavailable,
                    "this host has no hardware TPM '{}', which the configuration names: it has {}", name, list(tpms));
    }
    if (tpms.size() == 1) return tpms.front();
    return fail(ErrorCode::kRefused,
                "this host has several hardware TPMs: {}: the configuration must choose one by its name: tpm = \"{}\"",
                list(tpms), tpms.front().name);
}

}  // namespace vtpm
