// SPDX-License-Identifier: Apache-2.0
// The values of PCRs of one bank.
#pragma once

#include <map>
#include <string>

#include "base/bytes.hpp"
#include "manager/tpm/pcr_selection.hpp"

namespace vtpm {

using PcrValues = std::map<unsigned, Bytes>;  // by the PCR's number

// One after the other, in the order of their numbers: as they are stored, and as TPM2_PolicyPCR digests them.
Bytes joined(const PcrValues &values);
// None if `bytes` are not the values of `pcrs`.
PcrValues split(const PcrSelection &pcrs, ByteView bytes);

// What TPM2_PolicyPCR compares: the SHA-256 of all values, one after the other (TCG Part 3, 23.7).
Result<Bytes> digest_of(const PcrValues &values);

// One line for the PCRs whose value is another one: "PCR 7 was ..., is ...; ...". Empty if there is none. `were` says
// what the first value is: "was", "approved".
std::string differences(const PcrValues &before, const PcrValues &now, std::string_view were = "was");

}  // namespace vtpm
