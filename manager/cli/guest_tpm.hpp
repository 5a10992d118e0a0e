// SPDX-License-Identifier: Apache-2.0
// The guest's side of the commands that are ours (docs/attestation.md, docs/measured-launch.md), at the TPM's device.
#pragma once

#include <string>

#include "base/bytes.hpp"
#include "base/result.hpp"

namespace vtpm::cli {

// The attestation of the TPM at `path`, which must be the raw one (/dev/tpm0): the kernel's resource manager lets
// no vendor's commands through. Waits while it is being made. kInUse: another program has the device open; kRefused:
// this TPM gives none; kUnavailable: not within a minute.
Result<std::string> attest_guest(const std::string &path, ByteView nonce);

// The event log of the TPM at `path`, likewise. kNotFound: it has none, or is none of ours.
Result<Bytes> read_guest_event_log(const std::string &path);

}  // namespace vtpm::cli
