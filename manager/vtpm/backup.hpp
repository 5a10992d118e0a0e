// SPDX-License-Identifier: Apache-2.0
// One vTPM as one file: its permanent state, sealed under its group's key; and that key under the group's recovery key,
// so that the file and the recovery key are enough when store and TPM are gone. PEM, labelled XEN VTPM BACKUP; what it
// says of itself is authenticated with the state (docs/keys.md).
#pragma once

#include <string>

#include "manager/crypto/cipher.hpp"
#include "manager/store/launch_policy.hpp"
#include "manager/tpm/tpm_profile.hpp"
#include "shared-protocol/messages.hpp"

namespace vtpm {

struct BackupHeader {
    Uuid uuid;
    TpmVersion version = TpmVersion::k20;
    TpmProfile profile;
    std::string group;
    std::string store_id;     // of the store that had it
    std::int64_t time = 0;    // seconds since 1970
    Bytes endorsement;        // endorsement.hpp; may be empty
    Bytes wrapped_group_key;  // recovery_key.hpp; empty: the group has no recovery key
    LaunchPolicy launch = LaunchPolicy::kOff;
    Bytes launch_approver{};  // as in VtpmRecord
};

struct Backup {
    BackupHeader header;
    Bytes encoded_header;
    Bytes box;
};

Result<std::string> make_backup(const Key &group_key, const BackupHeader &header, ByteView state);
// kInvalid: it is no backup. What the header says is not proved before open_backup().
Result<Backup> parse_backup(std::string_view pem);
// The permanent state. kRefused: changed, or of a group with another key.
Result<SecretBytes> open_backup(const Key &group_key, const Backup &backup);

}  // namespace vtpm
