// SPDX-License-Identifier: Apache-2.0
// /etc/xen-vtpm/manager.toml. The keys are the members' names; their meaning: manager.toml(5).
#pragma once

#include <string>

#include "manager/store/launch_policy.hpp"
#include "manager/tpm/pcr_selection.hpp"
#include "manager/tpm/tpm_profile.hpp"
#include "shared-protocol/messages.hpp"

namespace vtpm {

constexpr const char *kDefaultConfig = "/etc/xen-vtpm/manager.toml";

enum class Sealing { kTpm, kFile };

struct Config {
    Sealing sealing = Sealing::kTpm;
    std::string tpm;         // the hardware TPM, by its device's name; empty: the one that there is
    std::string tcti;        // the same, as tss2-tctildr reads it; empty: found by its name
    PcrSelection seal_pcrs;  // sha256:7
    PcrSelection host_pcrs;  // none; of PCRs 0 to 15
    bool auto_create = true;
    bool ek_certificates = true;
    bool guest_attestation = true;
    TpmVersion default_tpm = TpmVersion::k20;
    TpmProfile profile;                            // [profile]: of a new TPM 2.0
    LaunchPolicy launch = LaunchPolicy::kMeasure;  // of a new vTPM
    std::string state_directory = "/var/lib/xen-vtpm";
    std::string socket = "/run/xen-vtpm/manager.sock";
};

// kInvalid names file and line: not TOML, an unknown key, a value of the wrong type.
Result<Config> load_config(const std::string &path);
// The defaults, or `text` over them; `path` is for error texts.
Result<Config> parse_config(std::string_view text, const std::string &path);

}  // namespace vtpm
