// SPDX-License-Identifier: Apache-2.0
// PCRs in the JSON documents that say something of a boot.
#pragma once

#include "manager/crypto/json_object.hpp"
#include "manager/tpm/pcr_values.hpp"

namespace vtpm {

// 'pcrs', in its one text, and 'values': those of these PCRs, no more and no less.
Result<PcrSelection> pcrs_in(const JsonObject &document);
Result<PcrValues> values_in(const JsonObject &document, const PcrSelection &pcrs);

}  // namespace vtpm
