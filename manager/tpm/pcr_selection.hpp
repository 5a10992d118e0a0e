// SPDX-License-Identifier: Apache-2.0
// A set of PCRs in one bank, as the configuration writes it: "sha256:7", "sha384:0,2,4-7"; "" is no PCR.
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include <bitset>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace vtpm {

class PcrSelection {
public:
    // kInvalid if `text` is not a selection.
    static Result<PcrSelection> parse(std::string_view text);

    [[nodiscard]] bool empty() const { return pcrs_.none(); }
    [[nodiscard]] TPML_PCR_SELECTION tpm() const;
    // One of them.
    [[nodiscard]] TPML_PCR_SELECTION only(unsigned pcr) const;
    // Whether every PCR of the selection is among the TPM's allocated ones.
    [[nodiscard]] bool within(const TPML_PCR_SELECTION &allocated) const;
    // The one text of this selection: its PCRs in ascending order, each once.
    [[nodiscard]] const std::string &to_string() const { return text_; }
    // Their numbers, in ascending order.
    [[nodiscard]] std::vector<unsigned> numbers() const;

private:
    static constexpr std::size_t kPcrs = 24;  // of the PC Client profile
    std::string text_;
    TPM2_ALG_ID bank_ = TPM2_ALG_NULL;
    std::bitset<kPcrs> pcrs_;
};

}  // namespace vtpm
