// SPDX-License-Identifier: Apache-2.0
// What the units (data/) must let through that they do not by themselves, since the configuration says otherwise than
// they do; and what they pass on.
#pragma once

#include <string>

#include "manager/config.hpp"
#include "manager/hardware_tpm/storage_primary.hpp"

namespace vtpm {

// The text of a drop-in; empty: none is needed. kInvalid: something that no drop-in lets through, with the reason.
Result<std::string> drop_in_of_manager(const Config &config);
// The same of xen-vtpmd's unit.
Result<std::string> drop_in_of_backend(const Config &config);

// Behind an error that the unit may be the cause of: the remedy; empty if the configuration needs no drop-in, or none
// for its `tcti`.
std::string drop_in_advice(const Config &config);
std::string tcti_advice(const Config &config);

// The firmware's event log as the unit passes it on (LoadCredential=), for the TPM that `tcti` names. `credentials`:
// the directory of the credentials; null: without a unit the kernel's own.
std::string event_log_of(const std::string &tcti, const char *credentials);

// The authorization values of the hardware TPM's hierarchies: credentials tpm-owner-password and
// tpm-endorsement-password, without a newline at the end. Empty where there is none. kInvalid: one is too long.
Result<HierarchyPasswords> passwords_of(const char *credentials);

}  // namespace vtpm
