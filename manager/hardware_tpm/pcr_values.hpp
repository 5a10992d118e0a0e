// SPDX-License-Identifier: Apache-2.0
// The values of the PCRs of a selection, in the order of their numbers.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "manager/hardware_tpm/pcr_selection.hpp"

namespace vtpm {

using PcrValues = std::vector<Bytes>;

// As they are stored: one after the other.
Bytes joined(const PcrValues &values);
// None if `bytes` are not the values of `pcrs`.
PcrValues split(const PcrSelection &pcrs, ByteView bytes);

// What TPM2_PolicyPCR compares: the SHA-256 of all values, one after the other (TCG Part 3, 23.7).
Result<Bytes> digest_of(const PcrValues &values);

// One line for each PCR whose value is another one: "PCR 7 was ..., is ...". Empty if there is none.
std::string differences(const PcrSelection &pcrs, const PcrValues &were, const PcrValues &are);

}  // namespace vtpm
